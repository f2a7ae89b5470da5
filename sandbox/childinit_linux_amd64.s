#include "textflag.h"

// The child of clone(2) begins on a stack of its own, holds c and entry in registers that the kernel preserves, and never returns.
// It calls as Go does (ABIInternal): the argument in AX, X15 zero.

// func cloneInit(flags, stack uintptr, c *childInit, entry uintptr) int
TEXT ·cloneInit(SB), NOSPLIT, $0-40
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ c+16(FP), R12
	MOVQ entry+24(FP), R13
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // SYS_clone
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, ret+32(FP)
	RET
child:
	XORL BP, BP
	XORPS X15, X15
	SUBQ $16, SP
	MOVQ R12, AX
	CALL R13
	INT  $3

// func clone3Init(args *[11]uint64, size uintptr, c *childInit, entry uintptr) int
TEXT ·clone3Init(SB), NOSPLIT, $0-40
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ c+16(FP), R12
	MOVQ entry+24(FP), R13
	MOVL $435, AX // SYS_clone3
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, ret+32(FP)
	RET
child:
	XORL BP, BP
	XORPS X15, X15
	SUBQ $16, SP
	MOVQ R12, AX
	CALL R13
	INT  $3
