/*
 * Fills a file with random words, one in every cache line, and prints a sum of them: `memory FILE MIB`.
 * In a tmpfs that is memory.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/** Words of 8 bytes from one that is written to the next. */
static const size_t STEP = 8;

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  size_t words = (size_t)atoi(argv[2]) << 17;
  int file = open(argv[1], O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, words * sizeof(uint64_t)) != 0) return 3;
  uint64_t *memory = mmap(0, words * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return 4;
  uint64_t x, sum = 0;
  if (getrandom(&x, sizeof x, 0) != sizeof x) return 5;
  for (size_t i = 0; i < words; i += STEP) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64 */
    memory[i] = x;
  }
  for (size_t i = 0; i < words; i += STEP) sum = sum * 31 + memory[i];
  printf("FILLED %s MiB: %016lx\n", argv[2], (unsigned long)sum);
  return 0;
}
