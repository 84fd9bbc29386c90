/*
 * The start of the test kernel: QEMU's PVH loader enters in 32-bit protected mode without paging,
 * we go to 64-bit mode with the first GiB mapped one to one, and call kernel_main.
 * Source: Xen's PVH boot ABI (ELF note 18); Intel SDM 3A, 9.8.5.
 */
        .section .note.pvh, "a", @note
        .long 4, 4, 18
        .asciz "Xen"
        .long pvh_start

        .bss
        .balign 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4096
        .skip 16384
stack_end:

        .data
        .balign 16
gdt:    .quad 0
        .quad 0x00af9a000000ffff
        .quad 0x00cf92000000ffff
gdt_descriptor:
        .word . - gdt - 1
        .quad gdt

        .text
        .code32
        .globl pvh_start
pvh_start:
        cli
        movl $pdpt + 3, pml4
        movl $pd + 3, pdpt
        movl $pd, %edi
        movl $0x83, %eax
        movl $512, %ecx
1:      movl %eax, (%edi)
        addl $0x200000, %eax
        addl $8, %edi
        loop 1b
        movl $pml4, %eax
        movl %eax, %cr3
        movl %cr4, %eax
        orl $0x20, %eax
        movl %eax, %cr4
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl %cr0, %eax
        orl $0x80000001, %eax
        movl %eax, %cr0
        lgdt gdt_descriptor
        ljmp $8, $long_mode

        .code64
long_mode:
        movw $16, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        leaq stack_end, %rsp
        xorl %ebp, %ebp
        call kernel_main
2:      hlt
        jmp 2b

        .globl timer_entry
timer_entry:
        push %rax
        push %rcx
        push %rdx
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        call on_timer
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rdx
        pop %rcx
        pop %rax
        iretq

        .section .note.GNU-stack, "", @progbits
