/*
 * What every first process of a test guest does before it does anything of its own: file systems, kernel modules, the
 * control line. Must not know what the programs do with it.
 */
#ifndef BOOT_H
#define BOOT_H

/* Loads the modules that the file `list` names, one path a line; returns the control line's descriptor. */
int boot(const char *list);

/* To the kernel's console: for what is worth saying before the control line stands. */
void console_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
