/* mo_math.c - exp and row reductions that softmax, losses and activations share. */

#define MOI_ISA scalar
#include "mo_math.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_math.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_math.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_math.inc"
#undef MOI_ISA
#endif
