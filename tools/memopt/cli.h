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

extern const command plan_command, remat_command;
extern const command place_command;

// One line on stderr, with the command in front, then exit. EXIT_NO: the answer is no, or the
// machine does not allow it; EXIT_USAGE: a bad command line or bad input.
enum { EXIT_NO = 1, EXIT_USAGE = 2 };
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check(mo_status status, const char *what); // fails the program unless it is MO_OK
void *allocate(size_t n, size_t size);          // zeroed; fails the program when there is none
double now_s(void);
extern const mo_log cli_log; // to stderr, with the command in front

// ---- flags ------------------------------------------------------------------------------------

typedef enum flag_kind {
    FLAG_SWITCH, // bool
    FLAG_TEXT,   // const char *
    FLAG_BYTES,  // size_t: 300, 300K, 1.5G
    FLAG_SHARE,  // share: as FLAG_BYTES, or 40%
    FLAG_REAL,   // double, more than 0
    FLAG_RATE    // double, more than 0: 25e9, 25G (powers of 1000)
} flag_kind;

typedef struct share {
    size_t bytes; // 0 = given in percent, or not at all
    double percent;
} share;

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

// ---- text -------------------------------------------------------------------------------------

typedef struct bytes_text {
    char text[48];
} bytes_text;
bytes_text text_bytes(size_t bytes); // "1.5 MiB"

void json_string(FILE *out, const char *text);

// ---- output -----------------------------------------------------------------------------------

// Text that is gathered in memory, then becomes a file that appears whole or not at all. "-" is
// standard output; what is no regular file, such as /dev/null, is written directly.
typedef struct output {
    const char *path;
    FILE *file;
    char *data;
    size_t size;
} output;

void output_check(const char *path); // fails the program now when it could not be written later
void output_open(output *o, const char *path);
mo_writer output_writer(output *o);
void output_close(output *o); // fails the program, and leaves nothing behind, when it cannot
void flush_stdout(void);

#endif
