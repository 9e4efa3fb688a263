/**
 * The binding to libc: every system call of the project is declared here and nowhere else.
 *
 * Pointers are declared `int64_t` and passed as plain numbers: user addresses are below 2^47, and a number is
 * cheaper to pass than a buffer object. What the kernel reads or writes lives in mappings of our own
 * (`mapping.ts`), which never move and are never collected. Another binding could replace this one file.
 * Next: `errors.ts`, `mapping.ts`.
 */
import koffi from "koffi";

// `null` loads the symbols that are already in the process: libc, under glibc as under musl.
const libc = koffi.load(null);

/** A bound function. All arguments are integers; the result is what C returned, -1 for most failures. */
type Call<Arguments extends number[]> = (...args: Arguments) => number;

function bind<Arguments extends number[]>(prototype: string): Call<Arguments> {
  return libc.func(prototype) as unknown as Call<Arguments>;
}

type A = number;

export const libcCalls = {
  mmap: bind<[A, A, A, A, A, A]>("int64_t mmap(int64_t, size_t, int, int, int, int64_t)"),
  munmap: bind<[A, A]>("int munmap(int64_t, size_t)"),
  memcpy: bind<[A, A, A]>("int64_t memcpy(int64_t, int64_t, size_t)"),
  ftruncate: bind<[A, A]>("int ftruncate(int, int64_t)"),
  // Variadic in C. On x86-64 and arm64 Linux a call through this prototype passes the same registers.
  fcntl: bind<[A, A, A]>("int fcntl(int, int, int64_t)"),
  eventfd: bind<[A, A]>("int eventfd(unsigned int, int)"),
  read: bind<[A, A, A]>("int64_t read(int, int64_t, size_t)"),
  write: bind<[A, A, A]>("int64_t write(int, int64_t, size_t)"),
  close: bind<[A]>("int close(int)"),
  dup2: bind<[A, A]>("int dup2(int, int)"),
  readv: bind<[A, A, A]>("int64_t readv(int, int64_t, int)"),
  writev: bind<[A, A, A]>("int64_t writev(int, int64_t, int)"),
  epoll_create1: bind<[A]>("int epoll_create1(int)"),
  epoll_ctl: bind<[A, A, A, A]>("int epoll_ctl(int, int, int, int64_t)"),
  epoll_wait: bind<[A, A, A, A]>("int epoll_wait(int, int64_t, int, int)"),
  socket: bind<[A, A, A]>("int socket(int, int, int)"),
  socketpair: bind<[A, A, A, A]>("int socketpair(int, int, int, int64_t)"),
  bind: bind<[A, A, A]>("int bind(int, int64_t, unsigned int)"),
  listen: bind<[A, A]>("int listen(int, int)"),
  accept4: bind<[A, A, A, A]>("int accept4(int, int64_t, int64_t, int)"),
  connect: bind<[A, A, A]>("int connect(int, int64_t, unsigned int)"),
  shutdown: bind<[A, A]>("int shutdown(int, int)"),
  getsockopt: bind<[A, A, A, A, A]>("int getsockopt(int, int, int, int64_t, int64_t)"),
  getsockname: bind<[A, A, A]>("int getsockname(int, int64_t, int64_t)"),
  setsockopt: bind<[A, A, A, A, A]>("int setsockopt(int, int, int, int64_t, unsigned int)"),
  send: bind<[A, A, A, A]>("int64_t send(int, int64_t, size_t, int)"),
  recv: bind<[A, A, A, A]>("int64_t recv(int, int64_t, size_t, int)"),
  sendmsg: bind<[A, A, A]>("int64_t sendmsg(int, int64_t, int)"),
  recvmsg: bind<[A, A, A]>("int64_t recvmsg(int, int64_t, int)"),
  // Variadic in C, as fcntl.
  prctl: bind<[A, A, A, A, A]>("int prctl(int, int64_t, int64_t, int64_t, int64_t)"),
  // Variadic in C, as fcntl. Only for calls that libc has no name for.
  syscall: bind<[A, A, A, A, A]>("int64_t syscall(int64_t, int64_t, int64_t, int64_t, int64_t)"),
  umask: bind<[A]>("unsigned int umask(unsigned int)"),
  clock_gettime: bind<[A, A]>("int clock_gettime(int, int64_t)"),
} as const;

/** memfd_create came to libc late (glibc 2.27, musl 1.1.20); its name argument is a string, unlike all others. */
export const memfdCreate = libc.func("int memfd_create(const char *, unsigned int)") as unknown as (
  name: string,
  flags: number,
) => number;

/** Its strings are strings, too; each list ends with null. Returns only if it fails. */
export const execve = libc.func("int execve(const char *, const char **, const char **)") as unknown as (
  file: string,
  argv: (string | null)[],
  environment: (string | null)[],
) => number;

/** The calling thread's errno. Valid only straight after a call that failed. */
export function lastErrno(): number {
  return koffi.errno();
}

/** An ArrayBuffer over `length` bytes at `address`, without a finalizer: unmapping is the caller's business. */
export function viewMemory(address: number, length: number): ArrayBuffer {
  return koffi.view(address, length);
}
