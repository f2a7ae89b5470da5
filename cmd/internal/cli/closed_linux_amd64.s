//go:build !cgo

#include "textflag.h"

#define SYS_mmap 9
#define SYS_fcntl 72
#define F_GETFD 1

DATA _cgo_mmap(SB)/8, $·firstMmap(SB)
GLOBL _cgo_mmap(SB), NOPTR, $8

// Called as a C function: mmap(addr DI, n SI, prot DX, flags CX, fd R8, offset R9). The result, in AX, is an address or an errno.
TEXT ·firstMmap(SB), NOSPLIT|NOFRAME, $0
	MOVQ	$0, _cgo_mmap(SB)
	MOVQ	DI, R12
	MOVQ	SI, R13
	MOVQ	DX, BX
	MOVQ	CX, R15
	MOVL	$0, R10
	MOVL	$2, DI
look:
	MOVL	$F_GETFD, SI
	MOVL	$SYS_fcntl, AX
	SYSCALL			// changes AX, CX and R11
	SHLL	$1, R10
	TESTQ	AX, AX
	JGE	open
	ORL	$1, R10
open:
	DECL	DI
	JGE	look
	MOVL	R10, ·closed(SB)
	MOVQ	R12, DI
	MOVQ	R13, SI
	MOVQ	BX, DX
	MOVQ	R15, R10
	MOVL	$SYS_mmap, AX
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCS	done
	NEGQ	AX
done:
	RET
