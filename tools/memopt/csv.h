// csv.h - a table in a CSV file, held in memory: a header with the names of the columns, then rows.
#ifndef CSV_H
#define CSV_H

#include <stdbool.h>
#include <stddef.h>

// error is one line without a newline: file, line, column and value where there are such.
typedef struct csv {
    const char *path;
    char *text;         // the file; the cells point into it
    const char **names; // [n_columns] of the columns
    const char **cells; // [n_rows][n_columns], quotes and blanks around them removed
    size_t *lines;      // [n_rows] at which each row begins, counted from 1
    size_t n_columns, n_rows;
    char error[512];
} csv;

// Functions that return false have set error. csv_close is right in every case.
//
// comments: lines that begin with '#' are left out
// text: size bytes and room for one more, from malloc; csv_parse takes it over
bool csv_read(csv *c, const char *path, bool comments); // "-" is standard input
bool csv_parse(csv *c, const char *path, char *text, size_t size, bool comments);
void csv_close(csv *c);

enum { CSV_NONE = -1 };
int csv_find(const csv *c, const char *name); // CSV_NONE = there is no such column
const char *csv_cell(const csv *c, size_t row, int column);
// Whole numbers up to most; real numbers that are finite and not negative.
bool csv_size(csv *c, size_t row, int column, size_t most, size_t *value);
bool csv_real(csv *c, size_t row, int column, double *value);
bool csv_unique(csv *c, int column); // whether no two rows have the same value there

// A whole number at *at, which goes behind it; false = there is none up to most. For cells of many.
bool csv_scan_size(const char **at, size_t most, size_t *value);
// Sets error to "FILE: ...", or to "FILE:LINE: COLUMN 'VALUE': ...", and returns false.
bool csv_fail_file(csv *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool csv_fail(csv *c, size_t row, int column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
