/*
 * Frames from one tap to another through their bridge, as fast as they go: what tests/bench/recorder.ts
 * measures recorders with.
 *
 *     recorder_load SENDER RECEIVER BYTES MILLISECONDS
 *
 * Both are taps of the namespace it runs in. A thread writes frames of BYTES bytes into SENDER, a write each,
 * as QEMU does; another one reads them from RECEIVER, woken by poll, as QEMU is. The writer waits where
 * WINDOW frames are under way, so that no queue overflows: every frame that is missing at the end was
 * lost. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 4096		/* below the taps' txqueuelen */
#define FRAME_BYTES_MAX 65536
#define ETHERTYPE_HIGH 0x88	/* 0x88b5, for experiments */
#define ETHERTYPE_LOW 0xb5
#define READY_MS 5000
#define REST_MS 500
#define PROBE 0xff

static const unsigned char SENDER_MAC[6] = { 0x52, 0x54, 0, 0x77, 0, 1 };
static const unsigned char RECEIVER_MAC[6] = { 0x52, 0x54, 0, 0x77, 0, 2 };

static int sender, receiver, frame_bytes;
static atomic_long sent, received;
static atomic_int stop_reading, stop_writing;
static double writer_cpu, reader_cpu;

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "recorder_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tap(const char *name, int flags)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | flags);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		fail(name);
	return fd;
}

static int make_frame(unsigned char *frame, const unsigned char *to, const unsigned char *from)
{
	memset(frame, 0x5a, frame_bytes);
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = ETHERTYPE_HIGH;
	frame[13] = ETHERTYPE_LOW;
	return frame_bytes;
}

/* Whether a frame of ours came; its fifteenth byte goes into `mark`. */
static int take_frame(unsigned char *buffer, unsigned char *mark)
{
	ssize_t length = read(receiver, buffer, FRAME_BYTES_MAX);

	if (length < 0 && errno != EAGAIN)
		fail("read");
	if (length != frame_bytes || buffer[12] != ETHERTYPE_HIGH || buffer[13] != ETHERTYPE_LOW)
		return length < 0 ? -1 : 0;
	*mark = buffer[14];
	return 1;
}

static void *read_frames(void *unused)
{
	static unsigned char buffer[FRAME_BYTES_MAX];
	struct pollfd ready = { .fd = receiver, .events = POLLIN };
	unsigned char mark;

	while (!atomic_load(&stop_reading)) {
		if (poll(&ready, 1, 10) <= 0)
			continue;
		for (int taken; (taken = take_frame(buffer, &mark)) >= 0;)
			if (taken && mark != PROBE)
				atomic_fetch_add(&received, 1);
	}
	reader_cpu = now(CLOCK_THREAD_CPUTIME_ID);
	return unused;
}

static void *write_frames(void *unused)
{
	static unsigned char frame[FRAME_BYTES_MAX];
	int length = make_frame(frame, RECEIVER_MAC, SENDER_MAC);
	long count = 0;

	while (!atomic_load(&stop_writing)) {
		if (count - atomic_load(&received) >= WINDOW) {
			sched_yield();
			continue;
		}
		if (write(sender, frame, length) != length)
			fail("write");
		atomic_store(&sent, ++count);
	}
	writer_cpu = now(CLOCK_THREAD_CPUTIME_ID);
	return unused;
}

/* Teaches the bridge where the receiver is, and waits until frames get through. */
static void wait_for_bridge(void)
{
	static unsigned char frame[FRAME_BYTES_MAX], buffer[FRAME_BYTES_MAX];
	double deadline = now(CLOCK_MONOTONIC) + READY_MS / 1e3;
	unsigned char mark;

	for (;;) {
		make_frame(frame, SENDER_MAC, RECEIVER_MAC);
		frame[14] = PROBE;
		if (write(receiver, frame, frame_bytes) < 0 && errno != EIO)
			fail("write");
		make_frame(frame, RECEIVER_MAC, SENDER_MAC);
		frame[14] = PROBE;
		if (write(sender, frame, frame_bytes) < 0 && errno != EIO)
			fail("write");
		usleep(10000);
		while (take_frame(buffer, &mark) == 1)
			if (mark == PROBE)
				return;
		if (now(CLOCK_MONOTONIC) > deadline) {
			fprintf(stderr, "recorder_load: the bridge forwards nothing\n");
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	pthread_t writer, reader;
	double start, seconds;
	long before_rest;

	if (argc != 5) {
		fprintf(stderr, "usage: recorder_load SENDER RECEIVER BYTES MILLISECONDS\n");
		return 2;
	}
	frame_bytes = atoi(argv[3]);
	if (frame_bytes < 60 || frame_bytes > FRAME_BYTES_MAX)
		return 2;
	sender = open_tap(argv[1], 0);
	receiver = open_tap(argv[2], O_NONBLOCK);
	wait_for_bridge();

	start = now(CLOCK_MONOTONIC);
	pthread_create(&reader, 0, read_frames, 0);
	pthread_create(&writer, 0, write_frames, 0);
	usleep(atoi(argv[4]) * 1000L);
	atomic_store(&stop_writing, 1);
	before_rest = atomic_load(&received);
	seconds = now(CLOCK_MONOTONIC) - start;
	pthread_join(writer, 0);
	for (int i = 0; i < REST_MS && atomic_load(&received) < atomic_load(&sent); i++)
		usleep(1000);
	atomic_store(&stop_reading, 1);
	pthread_join(reader, 0);
	printf("{\"seconds\":%.6f,\"inTime\":%ld,\"sent\":%ld,\"received\":%ld,\"writerCpuS\":%.6f,"
	       "\"readerCpuS\":%.6f}\n", seconds, before_rest, atomic_load(&sent),
	       atomic_load(&received), writer_cpu, reader_cpu);
	return 0;
}
