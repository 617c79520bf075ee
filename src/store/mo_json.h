/* mo_json.h - the JSON of file headers, for the implementation only: a cursor that reads what is
 * expected next, without a tree, memory or recursion; and strings on their way out. */
#ifndef MEMOPT_JSON_H
#define MEMOPT_JSON_H

/* Text to read. It is valid UTF-8. error stays NULL until something unexpected stands at `at`. */
typedef struct moi_json {
    const char *text;
    size_t size, at;
    const char *error;
} moi_json;

/* A string between its quotes, escapes as they stand in the file; checked. */
typedef struct moi_json_text {
    const char *begin;
    size_t size;
} moi_json_text;

/* Bytes of the longest valid UTF-8 prefix; size when all of it is valid. */
static size_t moi_utf8_prefix(const char *text, size_t size);

/* A C string, not NULL, of valid UTF-8. */
static int moi_is_text(const char *text);

/* A list: moi_json_open(j, '['); for (i = 0; moi_json_item(j, ']', i); i++) read one item.
 * moi_json_item is 0 after the last item, with j->error still NULL, and after an error. */
static int moi_json_open(moi_json *j, char bracket);
static int moi_json_item(moi_json *j, char bracket, size_t i);

/* All return 0 and set j->error when something else stands there. moi_json_key takes the colon too;
 * moi_json_end accepts white space only. */
static int moi_json_key(moi_json *j, moi_json_text *key);
static int moi_json_string(moi_json *j, moi_json_text *string);
static int moi_json_u64(moi_json *j, uint64_t *number);
static int moi_json_end(moi_json *j);

/* Any value; its brackets are matched, at most 64 deep, but numbers and words are not looked at. */
static int moi_json_skip(moi_json *j);

/* The text of any value, without the white space around it; brackets as moi_json_skip. */
static int moi_json_value(moi_json *j, moi_json_text *value);

/* A number of at most 3e38 and 39 characters; true or 1, false and null or 0. */
static int moi_json_real(moi_json *j, double *number);
static int moi_json_flag(moi_json *j, int *flag);

static int moi_json_is(moi_json_text string, const char *text);

/* Undo the escapes: [string.size] at most, the length is returned. dst may be string.begin. */
static size_t moi_json_decode(moi_json_text string, char *dst);

/* One character of text as it has to stand in a JSON string: bytes in out. */
static size_t moi_json_escape(char character, char out[6]);

/* Text for one line of a log: cut to fit at a whole character, control characters as '?'. */
static const char *moi_printable(const char *text, size_t text_size, char *out, size_t out_size);

#endif
