// cli.h - what the commands of memopt share: the table of commands, flags, errors, output files.
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "memopt.h"

// One command. run gets the arguments behind the command's name and returns the exit status.
typedef struct command {
    const char *name, *summary, *help;
    int (*run)(const struct command *self, int argc, const char *const *argv);
} command;

extern const command estimate_command, plan_command, remat_command, place_command, inspect_command,
    verify_command, convert_command, quantize_command, diff_command, merge_lora_command,
    split_command, merge_command, suggest_command, fit_command, pareto_command;

// One line on stderr, with the command in front, then exit. EXIT_NO: the answer is no, or the
// machine does not allow it; EXIT_USAGE: a bad command line or bad input.
enum { EXIT_NO = 1, EXIT_USAGE = 2 };
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Fail the program unless the status is MO_OK; check_said: the library has said why.
void check(mo_status status, const char *what);
void check_said(mo_status status);
void *allocate(size_t n, size_t size); // zeroed; fails the program when there is none
double now_s(void);
extern const mo_log cli_log; // to stderr, with the command in front

// ---- flags ------------------------------------------------------------------------------------

typedef enum flag_kind {
    FLAG_SWITCH, // bool
    FLAG_TEXT,   // const char *
    FLAG_COUNT,  // size_t, 1 or more
    FLAG_BYTES,  // size_t: 300, 300K, 1.5G
    FLAG_SHARE,  // share: as FLAG_BYTES, or 40%
    FLAG_REAL,   // double, more than 0
    FLAG_LEAST,  // double, 0 or more
    FLAG_RATE,   // double, more than 0: 25e9, 25G (powers of 1000)
    FLAG_WORDS   // word_list: may be given more than once
} flag_kind;

typedef struct share {
    size_t bytes; // 0 = given in percent, or not at all
    double percent;
} share;

typedef struct word_list {
    const char **items; // to be freed
    size_t n;
} word_list;

typedef struct flag {
    const char *name;
    flag_kind kind;
    void *value;
} flag;

// A value from text, as on the command line; fails the program on a bad one.
void flag_set(const flag *f, const char *text);

// Flags to values, everything else to files; fails on unknown flags and bad values, and when there
// are not n_files of them. --help prints the command's help and exits.
void flags_parse(const command *self, int argc, const char *const *argv, const flag *flags,
    size_t n_flags, const char **files, size_t n_files);

// The same for at least one file, at most argc of them. Returns how many there are.
size_t flags_parse_many(const command *self, int argc, const char *const *argv, const flag *flags,
    size_t n_flags, const char **files);

// ---- text -------------------------------------------------------------------------------------

typedef struct bytes_text {
    char text[64];
} bytes_text;
bytes_text text_bytes(uint64_t bytes); // "1.5 MiB"
bytes_text text_size(uint64_t bytes);  // "1572864 bytes (1.5 MiB)"

const char *plural(size_t n); // "s" unless n is 1
void json_string(FILE *out, const char *text);
void json_after(const char *before, const char *text);   // on standard output, before as it is
void print_name(FILE *out, const char *text, int width); // control characters as '?'; padded

// ---- paths ------------------------------------------------------------------------------------

bool is_folder(const char *path);
size_t folder_size(const char *path); // bytes of path in front of the name
// name in the folder that the first n bytes of path are, none = the current one. To be freed.
char *path_in(const char *path, size_t n, const char *name);

// ---- output -----------------------------------------------------------------------------------

// Text that is gathered in memory; both fail the program when there is none.
typedef struct text_stream {
    FILE *file;
    char *data;
    size_t size;
} text_stream;
void text_begin(text_stream *t);
char *text_end(text_stream *t); // t->data, to be freed

// The same that then becomes a file that appears whole or not at all. "-" is
// standard output; what is no regular file, such as /dev/null, is written directly.
typedef struct output {
    const char *path;
    FILE *file;
    text_stream text;
} output;

void output_check(const char *path); // fails the program now when it could not be written later
void output_open(output *o, const char *path);
mo_writer output_writer(output *o);
void output_close(output *o); // fails the program, and leaves nothing behind, when it cannot

// A file that is written as a stream and appears whole or not at all. Both functions return 0, or
// the system's error; close moves the file to its place when error is 0, else removes it.
typedef struct fresh {
    char *target, *temp;
    int file;
} fresh;
int fresh_open(fresh *f, const char *path);
int fresh_close(fresh *f, int error);
int write_all(int file, const char *data, size_t size);
void flush_stdout(void);

#endif
