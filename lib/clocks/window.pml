/*
 * The replay window and the retransmission queue, over every recording that a small cluster can make
 * (CHECKPOINTS.md has the rules, window_model_test.ts runs it). Of a Lamport time only the epoch counts.
 *
 *   record: nondeterministic ticks, sends, receives ─▶ a script a VM: sends, receives, cuts
 *   replay: one process a VM walks its script; at a receive it waits for the frame, at a cut for the window
 *
 * A frame may be lost, reach several VMs, reach one twice, overtake others, and lie in a tap while
 * epochs pass. Each VM is on a host of its own, so they hear of a tick one after the other.
 *
 * -D of one of these takes a rule away, and a check has to fail:
 *   WINDOW_ZERO   no VM may be ahead of another
 *   NO_WINDOW     every VM may run as far ahead as it likes
 *   NOT_FORCED    a receive of an epoch does not force the cut before it
 *   EARLY_CUT     a cut may stand before the tick
 *   HOLDS_BACK    a VM that holds at a cut does not count as done with the epochs before it (with JUMP)
 * -DJUMP is a correct variant: some epochs have no cut.
 */
#ifndef VMS
#define VMS 3
#endif
#ifndef SENDS
#define SENDS 2		/* frames that a VM sends, at most */
#endif
#ifndef RECEIVES
#define RECEIVES 2	/* frames that a VM receives, at most */
#endif
#ifndef DEEDS
#define DEEDS 5		/* sends and receives of all VMs, at most */
#endif
#define EPOCHS 2
#define SENDS_AN_EPOCH 1
#define ITEMS (SENDS + RECEIVES + EPOCHS + 1)

#ifdef WINDOW_ZERO
#define WINDOW 0
#else
#define WINDOW 1
#endif

/* The number of the i-th epoch with a cut, from 1. */
#ifdef JUMP
#define NUMBER(i) (3 * (i))
#else
#define NUMBER(i) (i)
#endif

/* Items of a script; 0 ends it. */
#define SEND 1
#define CUT 2
#define RECEIVE 3		/* + frame */
#define FRAME(vm, n) ((vm) * SENDS + (n))

typedef Script { byte item[ITEMS]; byte length };
Script script[VMS];
bool replaying;

/* Recording; all zero again when the replay begins, so that equal scripts are one state. */
byte deeds;			/* sends and receives of all VMs */
byte ticked[VMS];		/* the epoch that the VM's host was ticked with */
byte clock[VMS];		/* the epoch of the VM's clock */
byte received[VMS];		/* frames received */
byte late[VMS];			/* epoch of the last receive: a tap keeps the order */
byte cuts[VMS];			/* cuts placed */
byte sends[VMS];		/* frames sent */
byte recent[VMS];		/* of these, since the last cut */
byte stamp[VMS * SENDS];	/* epoch of each send */
byte last, lastDeed;		/* the VM that did something last, and what: the frame sent, or */
#define TICK 254
#define OTHER 255

byte uses[VMS * SENDS];		/* how often each frame is received */

/* Replay. */
byte at[VMS];			/* ReplayWindow: the epoch a VM is in, or at the end of which it holds */
bool ended[VMS];
byte sent[VMS];			/* frames sent again */
byte held[VMS * SENDS];		/* RetransmissionQueue: uses left of what was sent again */
byte sentIn[VMS * SENDS];	/* the epoch in which it was */

inline append(vm, what)
{
	script[vm].item[script[vm].length] = what;
	script[vm].length++
}

inline did(vm, what)
{
	last = vm;
	lastDeed = what
}

inline placeCut(vm)
{
	cuts[vm]++;
	recent[vm] = 0;
	append(vm, CUT)
}

inline tick(vm)
{
	ticked[vm]++;
	if
	:: clock[vm] < ticked[vm] -> clock[vm] = ticked[vm]
	:: else
	fi;
	did(vm, TICK)
}

inline send(vm)
{
	deeds++;
	stamp[FRAME(vm, sends[vm])] = clock[vm];
	did(vm, FRAME(vm, sends[vm]));
	sends[vm]++;
	recent[vm]++;
	append(vm, SEND)
}

/* `t` is the epoch in which the frame entered the tap: now, or earlier, behind the one before it. */
inline receive(vm, f)
{
	deeds++;
	if
	:: clock[vm] < stamp[f] -> clock[vm] = stamp[f]
	:: else
	fi;
	t = clock[vm];
	do
	:: t > stamp[f] && t > late[vm] -> t--
	:: break
	od;
	late[vm] = t;
#ifndef NOT_FORCED
	do
	:: cuts[vm] < t -> placeCut(vm)
	:: else -> break
	od;
#endif
	t = 0;
	received[vm]++;
	uses[f]++;
	append(vm, RECEIVE + f);
	did(vm, OTHER)
}

/*
 * Of steps of two VMs that do not depend on each other, the lower VM's comes first: the other order
 * gives the same scripts. A step depends on another VM's tick or on the send of its frame only.
 */
#define IN_TURN(vm, on) ((vm) >= last || lastDeed == (on))

/* The next epoch starts when every host has heard of the one before. */
#define MAY_TICK(vm) (IN_TURN(vm, TICK) && ticked[vm] < EPOCHS && ticked[vm] <= ticked[0] && \
	ticked[vm] <= ticked[1] && ticked[vm] <= ticked[VMS - 1])
#define MAY_SEND(vm) ((vm) >= last && deeds < DEEDS && sends[vm] < SENDS && \
	recent[vm] < SENDS_AN_EPOCH)
#ifdef EARLY_CUT
#define MAY_CUT(vm) ((vm) >= last && cuts[vm] < EPOCHS)
#else
#define MAY_CUT(vm) ((vm) >= last && cuts[vm] < ticked[vm])	/* at any place behind the tick */
#endif
#define MAY_RECEIVE(vm, f) ((f) < VMS * SENDS && (f) / SENDS != (vm) && IN_TURN(vm, f) && \
	deeds < DEEDS && received[vm] < RECEIVES && (f) % SENDS < sends[(f) / SENDS])

#define RECEIVES_OF(vm, f) :: atomic { MAY_RECEIVE(vm, f) -> receive(vm, f) }
#define STEPS(vm) \
	:: atomic { MAY_TICK(vm) -> tick(vm) } \
	:: atomic { MAY_SEND(vm) -> send(vm) } \
	:: atomic { MAY_CUT(vm) -> placeCut(vm); did(vm, OTHER) } \
	RECEIVES_OF(vm, 0) RECEIVES_OF(vm, 1) RECEIVES_OF(vm, 2) \
	RECEIVES_OF(vm, 3) RECEIVES_OF(vm, 4) RECEIVES_OF(vm, 5)

active proctype record()
{
	byte vm, f, t;

	do
	STEPS(0)
	STEPS(1)
#if VMS == 3
	STEPS(2)
#endif
	:: d_step {
		if
		:: sends[0] >= sends[1] && sends[1] >= sends[VMS - 1] ->
			/* The log ends: the cuts that are left stand there. */
			for (vm : 0 .. VMS - 1) {
				do
				:: cuts[vm] < EPOCHS -> placeCut(vm)
				:: else -> break
				od
			}
		:: else ->	/* the same as another recording but for the numbers of the VMs */
			for (vm : 0 .. VMS - 1) {
				for (f : 0 .. ITEMS - 1) { script[vm].item[f] = 0 }
				script[vm].length = 0
			}
			for (f : 0 .. VMS * SENDS - 1) { uses[f] = 0 }
		fi;
		for (vm : 0 .. VMS - 1) {
			ticked[vm] = 0; clock[vm] = 0; received[vm] = 0; late[vm] = 0;
			cuts[vm] = 0; sends[vm] = 0; recent[vm] = 0
		}
		for (f : 0 .. VMS * SENDS - 1) { stamp[f] = 0 }
		vm = 0; f = 0; deeds = 0; last = 0; lastDeed = 0;
		replaying = true
	} -> break
	od
}

#define BEHIND(a, b) (ended[a] || (!ended[b] && at[b] < at[a]))
#define SLOWER(a, b) (BEHIND(a, b) -> b : a)
#if VMS == 3
#define SLOWEST (at[SLOWER(SLOWER(0, 1), 2)])
#else
#define SLOWEST (at[SLOWER(0, 1)])
#endif

#ifdef NO_WINDOW
#define MAY_ENTER(epoch) true
#else
#define MAY_ENTER(epoch) ((epoch) - SLOWEST <= WINDOW)
#endif

/* What one VM has in the queue from the slowest VM's epoch on; older frames are channel state. */
inline checkBound(vm)
{
	fresh = 0;
	for (n : 0 .. SENDS - 1) {
		if
		:: held[FRAME(vm, n)] > 0 && sentIn[FRAME(vm, n)] >= SLOWEST -> fresh++
		:: else
		fi
	}
	n = 0;
	assert(fresh <= (WINDOW + 1) * SENDS_AN_EPOCH);
	fresh = 0
}

#define DONE (ended[0] && ended[1] && ended[VMS - 1])
#define ITEM script[vm].item[next]
#define CUT_NUMBER NUMBER(cut + 1)

proctype replay(byte vm)
{
	byte next, cut, n, fresh;

	replaying;
	do
	:: atomic { ITEM == SEND ->
		held[FRAME(vm, sent[vm])] = uses[FRAME(vm, sent[vm])];
		sentIn[FRAME(vm, sent[vm])] = at[vm];
		sent[vm]++;
		checkBound(vm);
		next++ }
#ifndef HOLDS_BACK
	:: atomic { ITEM == CUT && at[vm] < CUT_NUMBER - 1 ->
		at[vm] = CUT_NUMBER - 1 }
#endif
	:: atomic { ITEM == CUT && MAY_ENTER(CUT_NUMBER) ->
		at[vm] = CUT_NUMBER;
		cut++;
		next++ }
	:: atomic { ITEM >= RECEIVE && held[ITEM - RECEIVE] > 0 ->
		assert((ITEM - RECEIVE) % SENDS < sent[(ITEM - RECEIVE) / SENDS]);
		held[ITEM - RECEIVE]--;
		next++ }
	:: ITEM == 0 -> break
	od;
	atomic {
		ended[vm] = true;
		next = 0;
		cut = 0;
		if
		:: DONE -> for (n : 0 .. VMS * SENDS - 1) { assert(held[n] == 0) }
		:: else
		fi;
		n = 0
	}
}

init
{
	atomic {
		byte vm;
		for (vm : 0 .. VMS - 1) { run replay(vm) }
	}
}

ltl finishes { <> DONE }
