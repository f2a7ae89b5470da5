#include "textflag.h"

// The child of clone(2) begins on a stack of its own, holds s in a register that the kernel preserves, and never returns.

// func cloneInit(flags, stack uintptr, s *stage) int
TEXT ·cloneInit(SB), NOSPLIT, $0-32
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD s+16(FP), R19
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // SYS_clone
	SVC
	CBZ  R0, child
	MOVD R0, ret+24(FP)
	RET
child:
	MOVD ZR, R29
	SUB  $32, RSP
	MOVD R19, 8(RSP)
	CALL ·initMain(SB)
	UNDEF

// func cloneProgram(flags, stack uintptr, s *stage) int
TEXT ·cloneProgram(SB), NOSPLIT, $0-32
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD s+16(FP), R19
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // SYS_clone
	SVC
	CBZ  R0, child
	MOVD R0, ret+24(FP)
	RET
child:
	MOVD ZR, R29
	SUB  $32, RSP
	MOVD R19, 8(RSP)
	CALL ·programMain(SB)
	UNDEF
