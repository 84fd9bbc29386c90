// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The recorder's two programs. FORMAT.md describes every structure here.
 *
 *   guest ──▶ tap ──clrr_ingress──▶ bridge ──▶ qdisc of a tap ──clrr_deliver──▶ queue of that tap ──▶ guest
 *                     number n, Lamport stamp,                    which frame this is,
 *                     mark on the skb, SEND event                 number d, RECEIVE event
 *
 * clrr_ingress is a tc program (clsact ingress) on every port of the bridge. clrr_deliver is the
 * filter of a tap (TUNSETFILTEREBPF): unlike tc egress it runs behind the qdisc, where segmentation
 * is done and the order is the order in which the guest reads the frames.
 *
 * One VM's frames enter clrr_ingress one after the other (QEMU writes them from one thread) and its
 * deliveries leave the qdisc one after the other (the qdisc's own lock). So at most one send and one
 * delivery of a VM run at the same time; frames of different VMs run in parallel.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

/* What our loader reads; no BTF, so that the object is the same whatever the debug information. */
struct map_definition {
	__u32 type, key_size, value_size, max_entries, flags;
};

struct vm_state {
	__u64 sends;		/* frames that left the VM: the next send number */
	__u64 deliveries;	/* frames that entered its queue: the next delivery number */
	__u64 lamport;
	__u64 lost_sends;	/* events that found the ring full */
	__u64 lost_receives;
	__u64 reserved[3];	/* a cache line a VM */
};

/* Written by user space only, through mmap. */
struct settings {
	__u64 epoch_floor;	/* epoch << 40: no clock stays below it */
	__u64 stamp_mask;	/* slots in clrr_stamps minus 1 */
};

struct stamp {
	__u64 tag;		/* the mark of the frame, STAMP_BUSY while a writer is at it */
	__u64 number;
	__u64 lamport;
	__u64 vm;
};

struct event {
	__u32 type, vm, source, length;
	__u64 number;		/* SEND: send number; RECEIVE: delivery number */
	__u64 source_number;	/* the frame's send number; ~0 if external */
	__u64 stamp;		/* the Lamport time of its send; 0 if external */
	__u64 lamport;		/* the VM's clock after this event */
	__u64 ktime_ns;
};

#define EVENT_SEND 1
#define EVENT_RECEIVE 2
#define EXTERNAL (~0ull)
#define STAMP_BUSY (1ull << 63)
#define CLOCK_TRIES 64
#define VLAN_TAG_BYTES 4

/* max_entries of 1 stands for "the loader knows": it depends on the cluster. */
struct map_definition SEC("maps") clrr_ports = { BPF_MAP_TYPE_HASH, 4, 4, 1, 0 };
struct map_definition SEC("maps") clrr_vms = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct vm_state), 1, BPF_F_MMAPABLE };
struct map_definition SEC("maps") clrr_settings = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct settings), 1, BPF_F_MMAPABLE };
struct map_definition SEC("maps") clrr_next_mark = { BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0 };
struct map_definition SEC("maps") clrr_stamps = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct stamp), 1, 0 };
struct map_definition SEC("maps") clrr_ring = { BPF_MAP_TYPE_RINGBUF, 0, 0, 1, 0 };

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

static __always_inline struct settings *settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&clrr_settings, &zero);
}

/* The number of the VM behind this port; 0: none, or a port that the recorder does not know. */
static __always_inline __u32 vm_of_port(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u32 *vm = bpf_map_lookup_elem(&clrr_ports, &ifindex);

	return vm ? *vm : 0;
}

/* Bytes on the wire: the kernel keeps a VLAN tag beside the frame, the guest sees it inside. */
static __always_inline __u32 wire_length(struct __sk_buff *skb)
{
	return skb->len + (skb->vlan_present ? VLAN_TAG_BYTES : 0);
}

/*
 * L = max(L, seen, epoch floor) + 1. Only a send and a delivery of the same VM compete, so a second
 * try is rare. Should every try fail, the last line still gives a time above all three, possibly
 * some steps further than needed.
 */
static __always_inline __u64 advance_clock(struct vm_state *vm, struct settings *set, __u64 seen)
{
	__u64 floor = READ_ONCE(set->epoch_floor);
	__u64 before = READ_ONCE(vm->lamport), after, found;

	if (floor > seen)
		seen = floor;
	for (int i = 0; i < CLOCK_TRIES; i++) {
		after = (before > seen ? before : seen) + 1;
		found = __sync_val_compare_and_swap(&vm->lamport, before, after);
		if (found == before)
			return after;
		before = found;
	}
	after = (before > seen ? before : seen) + 1;
	return __sync_fetch_and_add(&vm->lamport, after - before) + (after - before);
}

/* A mark that no frame in flight carries; never 0. */
static __always_inline __u32 allocate_mark(void)
{
	__u32 zero = 0, mark;
	__u32 *next = bpf_map_lookup_elem(&clrr_next_mark, &zero);

	if (!next)
		return 0;
	mark = __sync_fetch_and_add(next, 1);
	return mark ? mark : __sync_fetch_and_add(next, 1);
}

/*
 * Files a frame's identity under its mark and returns the mark; 0 where another writer is at work
 * in the slot: the frame then counts as external, which costs bytes and never a wrong identity.
 */
static __always_inline __u32 write_stamp(struct settings *set, __u32 vm, __u64 number, __u64 lamport)
{
	__u32 mark = allocate_mark();
	__u32 slot = mark & READ_ONCE(set->stamp_mask);
	struct stamp *stamp = bpf_map_lookup_elem(&clrr_stamps, &slot);
	__u64 old;

	if (!mark || !stamp)
		return 0;
	old = READ_ONCE(stamp->tag);
	if (old == STAMP_BUSY || __sync_val_compare_and_swap(&stamp->tag, old, STAMP_BUSY) != old)
		return 0;
	READ_ONCE(stamp->vm) = vm;
	READ_ONCE(stamp->number) = number;
	READ_ONCE(stamp->lamport) = lamport;
	__sync_lock_test_and_set(&stamp->tag, mark); /* a full barrier: the fields are there first */
	return mark;
}

/* Looks a mark up. Leaves `into` alone where the slot belongs to another frame by now. */
static __always_inline void read_stamp(struct settings *set, __u32 mark, struct stamp *into)
{
	__u32 slot = mark & READ_ONCE(set->stamp_mask);
	struct stamp *stamp = bpf_map_lookup_elem(&clrr_stamps, &slot);
	__u64 vm, number, lamport;

	if (!stamp || __sync_fetch_and_add(&stamp->tag, 0) != mark)
		return;
	vm = READ_ONCE(stamp->vm);
	number = READ_ONCE(stamp->number);
	lamport = READ_ONCE(stamp->lamport);
	if (__sync_fetch_and_add(&stamp->tag, 0) != mark) /* overwritten while we read */
		return;
	into->vm = vm;
	into->number = number;
	into->lamport = lamport;
}

SEC("tc")
int clrr_ingress(struct __sk_buff *skb)
{
	__u32 number = vm_of_port(skb), mark;
	struct vm_state *vm = number ? bpf_map_lookup_elem(&clrr_vms, &number) : 0;
	struct settings *set = settings();
	struct event *event;
	__u64 send, lamport;

	if (!vm || !set) {
		skb->mark = 0; /* not a recorded VM: whatever it carries means nothing here */
		return TC_ACT_UNSPEC;
	}
	send = __sync_fetch_and_add(&vm->sends, 1);
	lamport = advance_clock(vm, set, 0);
	mark = write_stamp(set, number, send, lamport);
	skb->mark = mark;

	event = bpf_ringbuf_reserve(&clrr_ring, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&vm->lost_sends, 1);
		return TC_ACT_UNSPEC;
	}
	event->type = EVENT_SEND;
	event->vm = number;
	event->source = number;
	event->length = wire_length(skb);
	event->number = send;
	event->source_number = send;
	event->stamp = lamport;
	event->lamport = lamport;
	event->ktime_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return TC_ACT_UNSPEC;
}

SEC("socket")
int clrr_deliver(struct __sk_buff *skb)
{
	__u32 number = vm_of_port(skb), mark = skb->mark;
	struct vm_state *vm = number ? bpf_map_lookup_elem(&clrr_vms, &number) : 0;
	struct stamp from = { .number = EXTERNAL };
	struct settings *set = settings();
	struct event *event;
	__u64 delivery, lamport;

	if (!vm || !set)
		return skb->len;
	if (mark)
		read_stamp(set, mark, &from);
	lamport = advance_clock(vm, set, from.lamport);
	delivery = __sync_fetch_and_add(&vm->deliveries, 1);

	event = bpf_ringbuf_reserve(&clrr_ring, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&vm->lost_receives, 1);
		return skb->len;
	}
	event->type = EVENT_RECEIVE;
	event->vm = number;
	event->source = from.vm;
	event->length = wire_length(skb);
	event->number = delivery;
	event->source_number = from.number;
	event->stamp = from.lamport;
	event->lamport = lamport;
	event->ktime_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return skb->len;
}

/* bpf_ktime_get_ns and the ring buffer are for GPL-compatible programs. */
char _license[] SEC("license") = "Dual MIT/GPL";
