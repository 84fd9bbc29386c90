/*
 * Prints whatever a program can ask of clocks and of randomness: read by `disks_test.ts`-like tests from the
 * console, where a replay has to print the same.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static void clock_of(const char *name, clockid_t id) {
  struct timespec vdso, kernel;
  clock_gettime(id, &vdso);
  syscall(SYS_clock_gettime, id, &kernel);
  printf("%s %ld.%09ld %ld.%09ld\n", name, vdso.tv_sec, vdso.tv_nsec, kernel.tv_sec, kernel.tv_nsec);
}

static void hex(const char *name, const unsigned char *bytes, int count) {
  printf("%s ", name);
  for (int i = 0; i < count; i++) printf("%02x", bytes[i]);
  printf("\n");
}

int main(void) {
  unsigned char bytes[32];
  unsigned eax, ebx, ecx, edx;
  clock_of("realtime", CLOCK_REALTIME);
  clock_of("monotonic", CLOCK_MONOTONIC_RAW);
  clock_of("cpu", CLOCK_PROCESS_CPUTIME_ID);
  uint64_t before = __rdtsc();
  usleep(30000);
  uint64_t slept = __rdtsc() - before;
  printf("tsc %lu slept %lu\n", (unsigned long)before, (unsigned long)slept);
  getrandom(bytes, sizeof bytes, 0);
  hex("getrandom", bytes, sizeof bytes);
  hex("at_random", (unsigned char *)getauxval(AT_RANDOM), 16);
  printf("stack %p\n", (void *)bytes);
  __cpuid(1, eax, ebx, ecx, edx);
  if (ecx & bit_RDRND) {
    uint64_t value = 0;
    __asm__ volatile("1: rdrand %0; jnc 1b" : "=r"(value));
    printf("rdrand %016lx\n", (unsigned long)value);
  }
  return 0;
}
