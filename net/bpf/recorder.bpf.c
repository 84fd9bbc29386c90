// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The recorder's programs. FORMAT.md describes every structure here.
 *
 *   guest ──▶ tap ──clrr_ingress──▶ bridge ──▶ qdisc of a tap ──clrr_deliver──▶ queue of that tap ──▶ guest
 *                     number n, Lamport stamp,                    which frame this is,
 *                     mark on the skb, SEND event                 number d, RECEIVE event
 *
 *   another host ◀── underlay ◀── VXLAN port ◀──clrr_tunnel_out── bridge      adds the trailer
 *   another host ──▶ underlay ──▶ VXLAN port ──clrr_tunnel_in───▶ bridge      cuts it, mark on the skb
 *
 * clrr_ingress is a tc program on the ingress of every port of the bridge but the tunnel. clrr_deliver is the
 * filter of a tap (TUNSETFILTEREBPF): unlike tc egress it runs behind the qdisc, where segmentation
 * is done and the order is the order in which the guest reads the frames.
 *
 * One VM's frames enter clrr_ingress one after the other (QEMU writes them from one thread) and its
 * deliveries leave the qdisc one after the other (the qdisc's own lock). So at most one send and one
 * delivery of a VM run at the same time; frames of different VMs run in parallel.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
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

/*
 * What stands in clrr_state in the place of VM 0, which there is not. Written by user space only, through mmap, but
 * for next_mark. With the VMs' states it is in one page of memory: every page that a frame touches costs
 * a miss of the TLB, which the system call that sends the frame has just emptied.
 */
struct settings {
	__u64 epoch_floor;	/* epoch << 40: no clock stays below it */
	__u64 stamp_mask;	/* slots in clrr_stamps minus 1 */
	__u64 cookie;		/* what frames of this recording carry between hosts; keys their hash */
	__u32 next_mark;
	__u32 reserved[9];
};

/* Half a cache line, so that none lies across two. */
struct stamp {
	__u64 tag;		/* VM << 32 | mark of the frame, STAMP_BUSY while a writer is at it */
	__u64 number;
	__u64 lamport;
	__u64 hash;		/* of a frame from another host; 0: from this one, or absent */
};

/* What is known of a frame. */
struct identity {
	__u64 number;
	__u64 lamport;
	__u64 hash;
	__u32 vm;
};

/* What the tunnel did. */
struct tunnel_state {
	__u64 out;
	__u64 in;
	__u64 foreign;		/* dropped: without our cookie */
	__u64 failed_out;	/* dropped: the trailer could not be added */
	__u64 failed_in;	/* dropped: it could not be cut off */
	__u64 reserved[3];
};

/* Behind each frame on its way between two hosts. */
struct trailer {
	__u64 cookie;
	__u64 number;		/* send number; ~0 if external */
	__u64 lamport;		/* the Lamport time of its send; 0 if external */
	__u64 hash;		/* 0: absent */
	__u32 vm;		/* the sender; 0: external */
	__u32 magic;
};

/* With the ring's own 8 bytes a cache line. */
struct event {
	__u32 type, vm, source, length;
	__u64 number;		/* SEND: send number; RECEIVE: delivery number */
	__u64 source_number;	/* the frame's send number; ~0 if external */
	__u64 stamp;		/* the Lamport time of its send; 0 if external */
	__u64 lamport;		/* the VM's clock after this event */
	__u64 hash;		/* RECEIVE of a frame from another host; 0: none */
};

#define EVENT_SEND 1
#define EVENT_RECEIVE 2
#define EXTERNAL (~0ull)
#define STAMP_BUSY (1ull << 63)
#define VM_MAX 0x7fffffffu /* what a tag has room for */
#define CLOCK_TRIES 64
#define VLAN_TAG_BYTES 4
#define TRAILER_MAGIC 0x31524c43u /* "CLR1" */
#define ETHERNET_HEADER_BYTES 14
#define MAC_ADDRESSES_BYTES 12
#define TUNNEL_VLAN 1
/* The longest frame that a tap with an MTU of 1500 is given: with header and two VLAN tags. */
#define HASHED_BYTES_MAX 1522
#define HASH_STEP_BYTES 8
#define HASH_STEPS_MAX ((HASHED_BYTES_MAX + HASH_STEP_BYTES - 1) / HASH_STEP_BYTES)

struct frame_bytes {
	__u8 bytes[(HASH_STEPS_MAX + 1) * HASH_STEP_BYTES];
};

/* max_entries of 1 stands for "the loader knows": it depends on the cluster. */
struct map_definition SEC("maps") clrr_ports = { BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0 };
struct map_definition SEC("maps") clrr_state = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct vm_state), 1, BPF_F_MMAPABLE };
struct map_definition SEC("maps") clrr_stamps = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct stamp), 1, 0 };
struct map_definition SEC("maps") clrr_tunnel = {
	BPF_MAP_TYPE_ARRAY, 4, sizeof(struct tunnel_state), 1, BPF_F_MMAPABLE };
struct map_definition SEC("maps") clrr_frame = {
	BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct frame_bytes), 1, 0 };
struct map_definition SEC("maps") clrr_ring = { BPF_MAP_TYPE_RINGBUF, 0, 0, 1, 0 };

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

static __always_inline struct settings *settings(void)
{
	__u32 zero = 0;

	_Static_assert(sizeof(struct settings) == sizeof(struct vm_state), "both are in clrr_state");
	return bpf_map_lookup_elem(&clrr_state, &zero);
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
static __always_inline __u32 allocate_mark(struct settings *set)
{
	__u32 mark = __sync_fetch_and_add(&set->next_mark, 1);

	return mark ? mark : __sync_fetch_and_add(&set->next_mark, 1);
}

/*
 * Files a frame's identity under its mark and returns the mark; 0 where another writer is at work
 * in the slot: the frame then counts as external, which costs bytes and never a wrong identity.
 *
 * x86 alone: there stores become visible in their order and loads are done in theirs, so that the tag
 * needs no barrier of its own when it is written last, and when it is read first and last.
 */
static __always_inline __u32 write_stamp(struct settings *set, __u32 vm, __u64 number,
					 __u64 lamport, __u64 hash)
{
	__u32 mark = allocate_mark(set);
	__u32 slot = mark & READ_ONCE(set->stamp_mask);
	struct stamp *stamp = bpf_map_lookup_elem(&clrr_stamps, &slot);
	__u64 old;

	if (!mark || !stamp || vm > VM_MAX)
		return 0;
	old = READ_ONCE(stamp->tag);
	if (old == STAMP_BUSY || __sync_val_compare_and_swap(&stamp->tag, old, STAMP_BUSY) != old)
		return 0;
	READ_ONCE(stamp->number) = number;
	READ_ONCE(stamp->lamport) = lamport;
	READ_ONCE(stamp->hash) = hash;
	READ_ONCE(stamp->tag) = (__u64)vm << 32 | mark;
	return mark;
}

/* Looks a mark up. Leaves `into` alone where the slot belongs to another frame by now. */
static __always_inline void read_stamp(struct settings *set, __u32 mark, struct identity *into)
{
	__u32 slot = mark & READ_ONCE(set->stamp_mask);
	struct stamp *stamp = bpf_map_lookup_elem(&clrr_stamps, &slot);
	__u64 tag, number, lamport, hash;

	if (!stamp)
		return;
	tag = READ_ONCE(stamp->tag);
	if ((__u32)tag != mark)
		return;
	number = READ_ONCE(stamp->number);
	lamport = READ_ONCE(stamp->lamport);
	hash = READ_ONCE(stamp->hash);
	if (READ_ONCE(stamp->tag) != tag) /* overwritten while we read */
		return;
	into->vm = tag >> 32;
	into->number = number;
	into->lamport = lamport;
	into->hash = hash;
}

SEC("tc")
int clrr_ingress(struct __sk_buff *skb)
{
	__u32 number = vm_of_port(skb), mark;
	struct vm_state *vm = number ? bpf_map_lookup_elem(&clrr_state, &number) : 0;
	struct settings *set = settings();
	struct event *event;
	__u64 send, lamport;

	if (!vm || !set) {
		skb->mark = 0; /* not a recorded VM: whatever it carries means nothing here */
		return TC_ACT_UNSPEC;
	}
	send = __sync_fetch_and_add(&vm->sends, 1);
	lamport = advance_clock(vm, set, 0);
	mark = write_stamp(set, number, send, lamport, 0);
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
	event->hash = 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return TC_ACT_UNSPEC;
}

SEC("socket")
int clrr_deliver(struct __sk_buff *skb)
{
	__u32 number = vm_of_port(skb), mark = skb->mark;
	struct vm_state *vm = number ? bpf_map_lookup_elem(&clrr_state, &number) : 0;
	struct identity from = { .number = EXTERNAL };
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
	event->hash = from.hash;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return skb->len;
}

static __always_inline __u32 rotate(__u32 x, __u32 by)
{
	return x << by | x >> (32 - by);
}

/* MurmurHash3's last step: every bit of x touches every bit of the result. */
static __always_inline __u32 avalanche(__u32 x)
{
	x = (x ^ x >> 16) * 0x85ebca6bu;
	x = (x ^ x >> 13) * 0xc2b2ae35u;
	return x ^ x >> 16;
}

/*
 * The bytes as they are on the wire, followed by zeros up to a whole step. Returns their number; 0
 * where they do not fit.
 */
static __always_inline __u32 copy_frame(struct __sk_buff *skb, struct frame_bytes *into)
{
	__u32 length = skb->len, tag = skb->vlan_present ? VLAN_TAG_BYTES : 0;
	__u8 *rest = into->bytes;

	if (length < ETHERNET_HEADER_BYTES || length > HASHED_BYTES_MAX - tag)
		return 0;
	if (tag) {
		__u32 protocol = skb->vlan_proto, tci = skb->vlan_tci;

		if (bpf_skb_load_bytes(skb, 0, into->bytes, MAC_ADDRESSES_BYTES))
			return 0;
		into->bytes[12] = protocol; /* it is in network order */
		into->bytes[13] = protocol >> 8;
		into->bytes[14] = tci >> 8;
		into->bytes[15] = tci;
		length -= MAC_ADDRESSES_BYTES;
		/* The verifier forgets what it knew of a sum: say it again, of the value that is used. */
		asm volatile("" : "+r"(length));
		if (length < 1 || length > HASHED_BYTES_MAX - MAC_ADDRESSES_BYTES - VLAN_TAG_BYTES ||
		    bpf_skb_load_bytes(skb, MAC_ADDRESSES_BYTES, into->bytes + 16, length))
			return 0;
		length += MAC_ADDRESSES_BYTES + VLAN_TAG_BYTES;
	} else {
		asm volatile("" : "+r"(length));
		if (length < 1 || length > HASHED_BYTES_MAX ||
		    bpf_skb_load_bytes(skb, 0, into->bytes, length))
			return 0;
	}
	asm volatile("" : "+r"(length));
	if (length > HASHED_BYTES_MAX)
		return 0;
	rest += length;
	for (int i = 0; i < HASH_STEP_BYTES; i++)
		rest[i] = 0;
	return length;
}

/*
 * The keyed hash of a frame, never 0; 0 where the frame is too long for it. lib/roles/keyed_hash.ts
 * is the same function: four lanes of 32 bits, each word goes into two of them.
 */
static __always_inline __u64 hash_frame(struct __sk_buff *skb, __u64 key)
{
	__u32 zero = 0, low = key, high = key >> 32, length;
	__u32 a = low ^ 0x9e3779b1u, b = high ^ 0x85ebca77u;
	__u32 c = high + 0xc2b2ae3du, d = low + 0x27d4eb2fu;
	struct frame_bytes *frame = bpf_map_lookup_elem(&clrr_frame, &zero);
	const __u32 *words;
	__u64 hash;

	if (!frame)
		return 0;
	length = copy_frame(skb, frame);
	if (!length)
		return 0;
	words = (const __u32 *)frame->bytes;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < HASH_STEPS_MAX; i++) {
		__u32 first = words[2 * i], second = words[2 * i + 1];

		if (i * HASH_STEP_BYTES >= length)
			break;
		a = rotate((a ^ first) * 0x9e3779b1u, 15);
		b = rotate((b ^ second) * 0x9e3779b1u, 15);
		c = rotate((c + first) * 0x85ebca77u, 13);
		d = rotate((d + second) * 0x85ebca77u, 13);
	}
	hash = (__u64)avalanche(avalanche(a ^ length) ^ b) << 32 | avalanche(avalanche(c ^ length) ^ d);
	return hash ? hash : 1;
}

static __always_inline struct tunnel_state *tunnel_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&clrr_tunnel, &zero);
}

/*
 * On the egress of the tunnel's port: says behind the frame who it is.
 *
 * The VLAN tag says nothing. But a bridged IP packet that does not fit into the underlay's MTU would not
 * be sent in fragments: the VXLAN device would answer it with an ICMP message in the receiver's name
 * (skb_tunnel_check_pmtu, net/ipv4/ip_tunnel_core.c). What is tagged is no IP packet to it.
 */
SEC("tc")
int clrr_tunnel_out(struct __sk_buff *skb)
{
	__u32 length = skb->len, mark = skb->mark;
	struct identity from = { .number = EXTERNAL };
	struct tunnel_state *tunnel = tunnel_state();
	struct settings *set = settings();
	struct trailer trailer = {};

	if (!tunnel || !set)
		return TC_ACT_SHOT;
	if (mark)
		read_stamp(set, mark, &from);
	trailer.cookie = READ_ONCE(set->cookie);
	trailer.number = from.number;
	trailer.lamport = from.lamport;
	trailer.vm = from.vm;
	trailer.hash = from.vm ? hash_frame(skb, trailer.cookie) : 0;
	trailer.magic = TRAILER_MAGIC;
	if (skb->gso_size || bpf_skb_change_tail(skb, length + sizeof(trailer), 0) ||
	    bpf_skb_store_bytes(skb, length, &trailer, sizeof(trailer), 0) ||
	    bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), TUNNEL_VLAN)) {
		__sync_fetch_and_add(&tunnel->failed_out, 1);
		return TC_ACT_SHOT;
	}
	skb->mark = 0; /* it means nothing to the host, whose routing may look at marks */
	__sync_fetch_and_add(&tunnel->out, 1);
	return TC_ACT_UNSPEC;
}

/* On the ingress of the tunnel's port: lets frames of this recording in, as the frames they are. */
SEC("tc")
int clrr_tunnel_in(struct __sk_buff *skb)
{
	struct tunnel_state *tunnel = tunnel_state();
	struct settings *set = settings();
	__u32 length = skb->len;
	struct trailer trailer;

	if (!tunnel || !set)
		return TC_ACT_SHOT;
	if (length < ETHERNET_HEADER_BYTES + sizeof(trailer) ||
	    bpf_skb_load_bytes(skb, length - sizeof(trailer), &trailer, sizeof(trailer)) ||
	    trailer.magic != TRAILER_MAGIC || trailer.cookie != READ_ONCE(set->cookie)) {
		__sync_fetch_and_add(&tunnel->foreign, 1);
		return TC_ACT_SHOT;
	}
	/* Of frames that were merged on their way (GRO) only the last one's trailer could be cut. */
	if (skb->gso_size || bpf_skb_change_tail(skb, length - sizeof(trailer), 0) ||
	    bpf_skb_vlan_pop(skb)) {
		__sync_fetch_and_add(&tunnel->failed_in, 1);
		return TC_ACT_SHOT;
	}
	skb->mark = trailer.vm ?
		write_stamp(set, trailer.vm, trailer.number, trailer.lamport, trailer.hash) : 0;
	__sync_fetch_and_add(&tunnel->in, 1);
	return TC_ACT_UNSPEC;
}

/* The ring buffer is for GPL-compatible programs. */
char _license[] SEC("license") = "Dual MIT/GPL";
