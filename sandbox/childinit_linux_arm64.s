#include "textflag.h"

// The child of clone(2) begins on a stack of its own, holds c and entry in registers that the kernel preserves, and never returns.
// It calls as Go does (ABIInternal): the argument in R0.

// func cloneInit(flags, stack uintptr, c *childInit, entry uintptr) int
TEXT ·cloneInit(SB), NOSPLIT, $0-40
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD c+16(FP), R19
	MOVD entry+24(FP), R20
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // SYS_clone
	SVC
	CBZ  R0, child
	MOVD R0, ret+32(FP)
	RET
child:
	MOVD ZR, R29
	SUB  $32, RSP
	MOVD R19, R0
	CALL (R20)
	UNDEF

// func clone3Init(args *[11]uint64, size uintptr, c *childInit, entry uintptr) int
TEXT ·clone3Init(SB), NOSPLIT, $0-40
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD c+16(FP), R19
	MOVD entry+24(FP), R20
	MOVD $435, R8 // SYS_clone3
	SVC
	CBZ  R0, child
	MOVD R0, ret+32(FP)
	RET
child:
	MOVD ZR, R29
	SUB  $32, RSP
	MOVD R19, R0
	CALL (R20)
	UNDEF
