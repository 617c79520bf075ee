// json.h - small JSON files of settings: values by key.
#ifndef JSON_H
#define JSON_H

#include "cli.h"

// A value as it stands in the text; at NULL = there is none.
typedef struct json_value {
    const char *at, *end;
} json_value;

// The text of a file, to be freed; fails the program when it is none, or no JSON.
char *json_read(const char *path);

json_value json_root(const char *text);
json_value json_get(json_value object, const char *key); // none where object is none

// false = the value is no such thing, or is not there.
bool json_number(json_value v, double *x);
bool json_is(json_value v, const char *word); // true, false, null
bool json_is_empty(json_value v);             // {} or []

char *json_text(json_value v); // of a string, to be freed; NULL = it is none

#endif
