set pagination off
set confirm off
catch syscall ioctl
commands
  silent
  # On the way in the result is still -ENOSYS.
  if (int)$rax != -38 && (($rsi >> 8) & 0xff) == 0xaf
    printf "%d ioctl(%d, 0x%x, 0x%lx) = %d\n", $_thread, (int)$rdi, (unsigned int)$rsi, $rdx, (int)$rax
    if $rdx > 0xffff
      if ($rsi & 0xff) == 3
        eval "x/%dgx $rdx", 1 + 4 * *(unsigned int *)$rdx
      else
        x/5gx $rdx
      end
    end
  end
  continue
end
run
