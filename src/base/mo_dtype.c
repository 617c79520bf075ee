/* mo_dtype.c - see mo_dtype.h. */

const char *mo_dtype_name(mo_dtype dtype) {
#define MOI_DTYPE_NAME(name, bits) #name,
    static const char *const names[MO_DTYPE_COUNT] = {MEMOPT_DTYPE_LIST(MOI_DTYPE_NAME)};
#undef MOI_DTYPE_NAME
    return (unsigned)dtype < MO_DTYPE_COUNT ? names[dtype] : "?";
}

unsigned mo_dtype_bits(mo_dtype dtype) {
#define MOI_DTYPE_BITS(name, bits) bits,
    static const unsigned char sizes[MO_DTYPE_COUNT] = {MEMOPT_DTYPE_LIST(MOI_DTYPE_BITS)};
#undef MOI_DTYPE_BITS
    return (unsigned)dtype < MO_DTYPE_COUNT ? sizes[dtype] : 0;
}

mo_dtype mo_dtype_find(const char *name) {
    int dtype = 0;
    while (dtype < MO_DTYPE_COUNT && strcmp(mo_dtype_name((mo_dtype)dtype), name) != 0) dtype++;
    return (mo_dtype)dtype;
}
