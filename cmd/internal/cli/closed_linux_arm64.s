//go:build !cgo

#include "textflag.h"

#define SYS_fcntl 25
#define SYS_mmap 222
#define F_GETFD 1

DATA _cgo_mmap(SB)/8, $·firstMmap(SB)
GLOBL _cgo_mmap(SB), NOPTR, $8

// Called as a C function: mmap(addr R0, n R1, prot R2, flags R3, fd R4, offset R5). The result, in R0, is an address or an errno.
TEXT ·firstMmap(SB), NOSPLIT|NOFRAME, $0
	MOVD	$0, _cgo_mmap(SB)
	MOVD	R0, R9
	MOVD	R1, R10
	MOVD	R2, R11
	MOVD	$0, R12
	MOVD	$2, R13
look:
	MOVD	R13, R0
	MOVD	$F_GETFD, R1
	MOVD	$0, R2
	MOVD	$SYS_fcntl, R8
	SVC
	LSL	$1, R12
	CMP	$0, R0
	BGE	open
	ORR	$1, R12
open:
	SUBS	$1, R13
	BGE	look
	MOVW	R12, ·closed(SB)
	MOVD	R9, R0
	MOVD	R10, R1
	MOVD	R11, R2
	MOVD	$SYS_mmap, R8
	SVC
	CMN	$4095, R0
	BCC	done
	NEG	R0, R0
done:
	RET
