/* mo_json.c - see mo_json.h. */

/* ---- UTF-8 --------------------------------------------------------------------------------- */

/* Bytes of the character at s, 0 when it is not valid: Unicode standard, table 3-7. */
static size_t moi_utf8_character(const unsigned char *s, size_t size) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || size < n) return 0;
    unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return n;
}

static size_t moi_utf8_prefix(const char *text, size_t size) {
    size_t at = 0;
    while (at < size) {
        uint64_t word = 0;
        if (size - at >= sizeof word) memcpy(&word, text + at, sizeof word);
        size_t n = sizeof word; /* nearly all text is ASCII */
        if (size - at < sizeof word || (word & UINT64_C(0x8080808080808080)) != 0)
            n = moi_utf8_character((const unsigned char *)text + at, size - at);
        if (n == 0) break;
        at += n;
    }
    return at;
}

static int moi_is_text(const char *text) {
    size_t size = text ? strlen(text) : 0;
    return text && moi_utf8_prefix(text, size) == size;
}

static size_t moi_utf8_encode(uint32_t code, char out[4]) {
    static const unsigned char first[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(first[n] | code);
    return n;
}

static const char *moi_printable(const char *text, size_t text_size, char *out, size_t out_size) {
    size_t n = moi_min(text_size, out_size - 1);
    if (n < text_size)
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    out[n] = '\0';
    return out;
}

/* ---- escapes ------------------------------------------------------------------------------- */

/* \uXXXX at s; 0 when something else stands there. */
static int moi_json_hex(const char *s, size_t size, uint32_t *code) {
    uint32_t value = 0;
    if (size < 6 || s[0] != '\\' || s[1] != 'u') return 0;
    for (int i = 2; i < 6; i++) {
        char c = s[i];
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0')
            : c >= 'a' && c <= 'f'            ? (unsigned)(c - 'a') + 10
            : c >= 'A' && c <= 'F'            ? (unsigned)(c - 'A') + 10
                                              : 16;
        if (digit == 16) return 0;
        value = value << 4 | digit;
    }
    *code = value;
    return 1;
}

/* The escape at s: bytes that it takes, 0 when it is not one. Characters beyond U+FFFF are two
 * escapes, a high and a low surrogate; one alone is an error. */
static size_t moi_json_unescape(const char *s, size_t size, uint32_t *code) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    uint32_t high, low;
    if (size < 2) return 0;
    const char *name = (const char *)memchr(names, s[1], sizeof names - 1);
    if (name) {
        *code = (uint32_t)values[name - names];
        return 2;
    }
    if (!moi_json_hex(s, size, &high)) return 0;
    if ((high & 0xf800) != 0xd800) {
        *code = high;
        return 6;
    }
    if (high >= 0xdc00 || !moi_json_hex(s + 6, size - 6, &low) || (low & 0xfc00) != 0xdc00)
        return 0;
    *code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return 12;
}

/* The next byte or escape of a checked string: bytes that it takes, and its n bytes in out. */
static size_t moi_json_character(moi_json_text rest, char out[4], size_t *n) {
    uint32_t code = 0;
    if (rest.begin[0] != '\\') {
        out[0] = rest.begin[0];
        *n = 1;
        return 1;
    }
    size_t taken = moi_json_unescape(rest.begin, rest.size, &code);
    *n = moi_utf8_encode(code, out);
    return taken;
}

static int moi_json_is(moi_json_text string, const char *text) {
    size_t length = strlen(text), n = 0;
    char character[4];
    if (!memchr(string.begin, '\\', string.size)) /* nearly always */
        return string.size == length && memcmp(string.begin, text, length) == 0;
    while (string.size > 0) {
        size_t taken = moi_json_character(string, character, &n);
        if (n > length || memcmp(character, text, n) != 0) return 0;
        text += n, length -= n;
        string.begin += taken, string.size -= taken;
    }
    return length == 0;
}

/* No escape is shorter than what it stands for, so decoding in place never overtakes itself. */
static size_t moi_json_decode(moi_json_text string, char *dst) {
    size_t length = 0, n = 0;
    char character[4];
    if (!memchr(string.begin, '\\', string.size)) { /* nearly always */
        memmove(dst, string.begin, string.size);
        return string.size;
    }
    while (string.size > 0) {
        size_t taken = moi_json_character(string, character, &n);
        memcpy(dst + length, character, n);
        length += n;
        string.begin += taken, string.size -= taken;
    }
    return length;
}

static size_t moi_json_escape(char character, char out[6]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char byte = (unsigned char)character;
    if (byte >= 0x20 && byte != '"' && byte != '\\') {
        out[0] = character;
        return 1;
    }
    out[0] = '\\';
    out[1] = character;
    if (byte >= 0x20) return 2;
    memcpy(out + 1, "u00", 3);
    out[4] = digits[byte >> 4];
    out[5] = digits[byte & 15];
    return 6;
}

/* ---- the cursor ---------------------------------------------------------------------------- */

static int moi_json_fail(moi_json *j, const char *error) {
    j->error = error;
    return 0;
}

/* The next character that is not white space, 0 at the end. */
static char moi_json_peek(moi_json *j) {
    for (; j->at < j->size; j->at++) {
        char c = j->text[j->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return c;
    }
    return '\0';
}

static int moi_json_open(moi_json *j, char bracket) {
    if (moi_json_peek(j) != bracket)
        return moi_json_fail(j, bracket == '{' ? "expected '{'" : "expected '['");
    j->at++;
    return 1;
}

static int moi_json_item(moi_json *j, char bracket, size_t i) {
    char next = moi_json_peek(j);
    if (j->error) return 0;
    if (next == bracket) {
        j->at++;
        return 0;
    }
    if (i == 0) return 1;
    if (next != ',')
        return moi_json_fail(j, bracket == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    j->at++;
    return 1;
}

/* How many characters stand for themselves. */
static size_t moi_json_plain(const char *s, size_t size) {
    size_t n = 0;
    while (n < size && s[n] != '"' && s[n] != '\\' && (unsigned char)s[n] >= 0x20) n++;
    return n;
}

static int moi_json_string(moi_json *j, moi_json_text *string) {
    if (moi_json_peek(j) != '"') return moi_json_fail(j, "expected a string");
    size_t begin = ++j->at;
    for (;;) {
        j->at += moi_json_plain(j->text + j->at, j->size - j->at);
        if (j->at == j->size || j->text[j->at] == '"') break;
        if (j->text[j->at] != '\\') return moi_json_fail(j, "control character in a string");
        uint32_t code = 0;
        size_t taken = moi_json_unescape(j->text + j->at, j->size - j->at, &code);
        if (taken == 0) return moi_json_fail(j, "invalid escape in a string");
        if (code == 0) return moi_json_fail(j, "NUL character in a string");
        j->at += taken;
    }
    if (j->at == j->size) return moi_json_fail(j, "string without an end");
    string->begin = j->text + begin;
    string->size = j->at++ - begin;
    return 1;
}

static int moi_json_key(moi_json *j, moi_json_text *key) {
    if (!moi_json_string(j, key)) return 0;
    if (moi_json_peek(j) != ':') return moi_json_fail(j, "expected ':'");
    j->at++;
    return 1;
}

static int moi_json_digit(const moi_json *j) {
    return j->at < j->size && j->text[j->at] >= '0' && j->text[j->at] <= '9';
}

static int moi_json_u64(moi_json *j, uint64_t *number) {
    uint64_t value = 0;
    char first = moi_json_peek(j);
    if (!moi_json_digit(j)) return moi_json_fail(j, "expected an integer that is not negative");
    while (moi_json_digit(j)) {
        unsigned digit = (unsigned)(j->text[j->at] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return moi_json_fail(j, "integer does not fit into 64 bits");
        value = value * 10 + digit;
        j->at++;
        if (first == '0') break; /* 01 is not JSON: what follows the 0 is the error */
    }
    *number = value;
    return 1;
}

static int moi_json_end(moi_json *j) {
    moi_json_peek(j);
    return j->at == j->size ? 1 : moi_json_fail(j, "text after the end");
}

/* One bit for each open bracket: set for '{'. */
static int moi_json_skip(moi_json *j) {
    uint64_t braces = 0;
    unsigned depth = 0;
    moi_json_text string;
    do {
        const char next = moi_json_peek(j);
        if (next == '{' || next == '[') {
            if (depth == 64) return moi_json_fail(j, "nested too deep");
            braces = braces << 1 | (next == '{');
            depth++, j->at++;
        } else if (next == '}' || next == ']') {
            if (depth == 0 || (braces & 1) != (next == '}'))
                return moi_json_fail(j, "a bracket that was not opened");
            braces >>= 1;
            depth--, j->at++;
        } else if (next == '"') {
            if (!moi_json_string(j, &string)) return 0;
        } else if (next == '\0' || (depth == 0 && (next == ',' || next == ':')))
            return moi_json_fail(j, "expected a value");
        else if (next == ',' || next == ':') j->at++;
        else
            while (j->at < j->size && !strchr(" \n\t\r,:{}[]\"", j->text[j->at])) j->at++;
    } while (depth > 0);
    return 1;
}

static int moi_json_value(moi_json *j, moi_json_text *value) {
    moi_json_peek(j);
    value->begin = j->text + j->at;
    if (!moi_json_skip(j)) return 0;
    value->size = (size_t)(j->text + j->at - value->begin);
    return 1;
}

static int moi_json_real(moi_json *j, double *number) {
    moi_json_text value;
    char text[40], *end;
    if (!moi_json_value(j, &value)) return 0;
    if (value.size == 0 || value.size >= sizeof text) return moi_json_fail(j, "expected a number");
    memcpy(text, value.begin, value.size);
    text[value.size] = '\0';
    const double x = strtod(text, &end);
    if (*end || !(fabs(x) <= 3e38)) return moi_json_fail(j, "expected a number");
    *number = x;
    return 1;
}

static int moi_json_flag(moi_json *j, int *flag) {
    moi_json_text value;
    if (!moi_json_value(j, &value)) return 0;
    *flag = moi_json_is(value, "true");
    return *flag || moi_json_is(value, "false") || moi_json_is(value, "null")
        ? 1
        : moi_json_fail(j, "expected true or false");
}
