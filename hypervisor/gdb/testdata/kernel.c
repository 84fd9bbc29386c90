/*
 * A guest kernel for the debugger's tests: some work under a 10 kHz timer interrupt, on the
 * serial console what came out, then power off. Every function that a test names is not inlined.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#ifndef ROUNDS
#define ROUNDS 5
#endif

enum { SERIAL = 0x3f8, PIC1 = 0x20, PIC2 = 0xa0, PIT = 0x40, POWER = 0x604 };

volatile long balance = 100;   /* changed by deposit() only, ROUNDS times */
volatile long rounds;
volatile u32 ticks;            /* counted by the timer's interrupt */
volatile u64 mixed[256];

static struct __attribute__((packed)) {
  u16 low, selector, flags, middle;
  u32 high, zero;
} idt[48];

static inline void out8(u16 port, u8 value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }

extern void timer_entry(void);

__attribute__((noinline)) void on_timer(void) {
  ticks++;
  out8(PIC1, 0x20);
}

__attribute__((noinline)) void print(const char *text) {
  while (*text) out8(SERIAL, *text++);
}

__attribute__((noinline)) void print_number(long n) {
  char digits[24];
  int at = sizeof digits - 1;
  digits[at] = 0;
  do digits[--at] = '0' + n % 10; while (n /= 10);
  print(digits + at);
}

__attribute__((noinline)) void deposit(long amount) {
  long before = balance;
  balance = before + amount;
  asm volatile("" ::: "memory");
}

/* Some 20,000 instructions that read no device. */
__attribute__((noinline)) void mix(u64 seed) {
  for (int turn = 0; turn < 10; turn++) {
    for (int i = 0; i < 256; i++) {
      seed = seed * 6364136223846793005ul + 1442695040888963407ul;
      mixed[i] ^= seed >> 32;
    }
  }
}

__attribute__((noinline)) void wait_for_tick(void) {
  u32 now = ticks;
  while (ticks == now) asm volatile("hlt");
}

static void start_timer(void) {
  u64 entry = (u64)timer_entry;
  idt[32].low = entry;
  idt[32].selector = 8;
  idt[32].flags = 0x8e00;
  idt[32].middle = entry >> 16;
  idt[32].high = entry >> 32;
  struct __attribute__((packed)) { u16 limit; u64 base; } descriptor = { sizeof idt - 1, (u64)idt };
  asm volatile("lidt %0" ::"m"(descriptor));
  out8(PIC1, 0x11); out8(PIC2, 0x11);
  out8(PIC1 + 1, 32); out8(PIC2 + 1, 40);
  out8(PIC1 + 1, 4); out8(PIC2 + 1, 2);
  out8(PIC1 + 1, 1); out8(PIC2 + 1, 1);
  out8(PIC1 + 1, 0xfe); out8(PIC2 + 1, 0xff);
  out8(PIT + 3, 0x34); out8(PIT, 119); out8(PIT, 0);
  asm volatile("sti");
}

__attribute__((noinline)) void finish(void) {
  print("balance "); print_number(balance); print("\n");
  out16(POWER, 0x2000);
}

void kernel_main(void) {
  print("start\n");
  start_timer();
  for (rounds = 0; rounds < ROUNDS; rounds++) {
    mix(rounds);
    deposit(10 * (rounds + 1));
    wait_for_tick();
  }
  finish();
  for (;;) asm volatile("hlt");
}
