/*
 * A guest program for the debugger's tests: the only process under a real kernel, without a library.
 */
static long call(long number, long a, long b, long c, long d) {
  register long r10 asm("r10") = d;
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
               : "rcx", "r11", "memory");
  return result;
}

volatile long total;          /* changed by add() */
volatile char pages[64][4096]; /* touched one by one: page faults between the additions */

__attribute__((noinline)) void add(long amount) {
  long before = total;
  total = before + amount;
  asm volatile("" ::: "memory");
}

__attribute__((noinline)) void report(void) {
  char text[] = "total 00\n";
  text[6] += total / 10;
  text[7] += total % 10;
  call(1, 1, (long)text, sizeof text - 1, 0);
}

void program_main(void) {
  total = 0; /* its page is there from now on */
  for (long i = 1; i <= 5; i++) {
    for (int page = 0; page < 8; page++) pages[8 * i + page][0] = i;
    add(i);
    report();
  }
  call(169, 0xfee1dead, 672274793, 0x4321fedc, 0); /* reboot: power off */
}

asm(".globl _start\n_start: xor %ebp, %ebp\n call program_main\n hlt\n");
