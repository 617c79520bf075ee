// names.h - names of tensors: patterns with * and ?, and new names.
#ifndef NAMES_H
#define NAMES_H

#include "cli.h"

// One of the patterns fits the whole name, as a shell's: * also stands for dots.
bool name_is_any(const char *name, const word_list *patterns);

// Rules are FROM=TO, which replaces FROM where the name begins with it, or s/FROM/TO/ with an
// extended regular expression, & and \1 to \9 in TO, and g behind it for every place.
// Another sign of | , # : ! @ % may stand for /.
typedef struct renames renames;
renames *renames_create(const word_list *rules); // fails the program on one that it cannot read
char *renames_apply(const renames *r, const char *name); // every rule in its order; to be freed
void renames_destroy(renames *r);

#endif
