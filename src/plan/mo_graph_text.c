/* mo_graph_text.c - see mo_graph.h. The text form, in and out. */

/* ---- numbers ------------------------------------------------------------------------------- */

/* What the locale has for a decimal point: the middle of 0.5. */
static void moi_graph_point(char point[16]) {
    char half[24];
    int n = snprintf(half, sizeof half, "%.1f", 0.5);
    size_t size = n > 2 && n < 16 ? (size_t)n - 2 : 0;
    memcpy(point, half + 1, size);
    point[size] = 0;
}

/* The shortest text that reads as the same number, with a point in every locale. */
static moi_track_text moi_graph_seconds(double value) {
    moi_track_text out;
    char point[16], text[48];
    int saved = errno;
    moi_graph_point(point);
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (!(strtod(text, NULL) < value || strtod(text, NULL) > value)) break;
    }
    errno = saved;
    char *at = point[0] ? strstr(text, point) : NULL;
    if (at)
        snprintf(out.text, sizeof out.text, "%.*s.%s", (int)(at - text), text, at + strlen(point));
    else snprintf(out.text, sizeof out.text, "%s", text);
    return out;
}

/* The whole word as a number; 0 = it is none. */
static int moi_graph_read_seconds(const char *word, double *value) {
    char point[16], text[96], *end;
    size_t n = strlen(word), n_before = strcspn(word, ".");
    int saved = errno;
    if (n > 64 || n == 0 || strspn(word, "0123456789.eE+-") != n) return 0;
    moi_graph_point(point);
    snprintf(text, sizeof text, "%.*s%s%s", (int)n_before, word, word[n_before] ? point : "",
        word[n_before] ? word + n_before + 1 : "");
    *value = strtod(text, &end);
    errno = saved;
    return end != text && *end == 0;
}

/* Digits and perhaps a unit; 0 = it is none, or too large. */
static int moi_graph_read_bytes(const char *word, size_t *value) {
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t n = 0;
    const char *at = word;
    for (; *at >= '0' && *at <= '9'; at++)
        if (!moi_mul(n, 10, &n) || !moi_add(n, (size_t)(*at - '0'), &n)) return 0;
    if (at == word) return 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(at, units[i]) == 0) {
            *value = n;
            return 1;
        }
        if (!moi_mul(n, 1024, &n)) return 0;
    }
    return 0;
}

/* ---- words --------------------------------------------------------------------------------- */

/* token_at is where the word that an error is about begins; strings holds the words of a line, each
 * with its 0, which never takes more than the line itself and one byte. */
typedef struct moi_graph_parser {
    mo_graph *graph;
    mo_log log;
    const char *text;
    size_t size, at, line, line_at, token_at;
    char *strings;
    size_t n_strings;
    size_t *inputs, *outputs;
    mo_graph_alias *pairs;
    size_t n_inputs, n_outputs, n_pairs;
    size_t max_inputs, max_outputs, max_pairs;
} moi_graph_parser;

static mo_status moi_graph_wrong(moi_graph_parser *p, const char *what, const char *word) {
    moi_log(&p->log, MO_LOG_ERROR, "graph: line %zu, column %zu: %s%s%s%s", p->line,
        p->token_at - p->line_at + 1, what, word ? " '" : "", word ? word : "", word ? "'" : "");
    return MO_E_FORMAT;
}

/* What adding an op or tensor has to say, with the place in the text. */
static void moi_graph_relay(void *self, mo_log_level level, const char *text) {
    moi_graph_parser *p = (moi_graph_parser *)self;
    const char *colon = strchr(text, ':');
    (void)level;
    (void)moi_graph_wrong(p, colon ? colon + 2 : text, NULL);
}

static int moi_graph_is_bare(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c != 0 && strchr("_./-+*@%$", c));
}

/* 0 at the end of the text. */
static char moi_graph_peek(const moi_graph_parser *p, size_t ahead) {
    return p->size - p->at > ahead ? p->text[p->at + ahead] : (char)0;
}

static void moi_graph_skip_blanks(moi_graph_parser *p) {
    while (
        moi_graph_peek(p, 0) == ' ' || moi_graph_peek(p, 0) == '\t' || moi_graph_peek(p, 0) == '\r')
        p->at++;
    p->token_at = p->at;
}

static int moi_graph_at_end(moi_graph_parser *p) {
    moi_graph_skip_blanks(p);
    return p->at == p->size || p->text[p->at] == '\n' || p->text[p->at] == '#';
}

/* Whether this comes next; then it is behind us. */
static int moi_graph_accept(moi_graph_parser *p, const char *what) {
    size_t n = strlen(what);
    moi_graph_skip_blanks(p);
    if (p->size - p->at < n || memcmp(p->text + p->at, what, n) != 0) return 0;
    p->at += n;
    return 1;
}

static int moi_graph_hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One character behind a backslash, or 0. */
static char moi_graph_escape(moi_graph_parser *p) {
    char c = moi_graph_peek(p, 0);
    if (c == '"' || c == '\\') {
        p->at++;
        return c;
    }
    int high = moi_graph_hex(moi_graph_peek(p, 1)), low = moi_graph_hex(moi_graph_peek(p, 2));
    if (c != 'x' || high < 0 || low < 0) return 0;
    p->at += 3;
    return (char)(16 * high + low);
}

/* The word between two quotes; 0 = not ended, or a character that may not be there. */
static int moi_graph_quoted(moi_graph_parser *p) {
    for (p->at++; moi_graph_peek(p, 0) != '"';) {
        unsigned char c = (unsigned char)moi_graph_peek(p, 0);
        if (c < 32 || c == 127) return 0;
        p->at++;
        if (c == '\\' && (c = (unsigned char)moi_graph_escape(p)) == 0) return 0;
        p->strings[p->n_strings++] = (char)c;
    }
    p->at++;
    return 1;
}

/* The next word; NULL when there is none, which is logged. */
static const char *moi_graph_word(moi_graph_parser *p, const char *what) {
    const char *word = p->strings + p->n_strings;
    moi_graph_skip_blanks(p);
    if (moi_graph_peek(p, 0) == '"') {
        if (!moi_graph_quoted(p)) {
            p->token_at = p->at;
            (void)moi_graph_wrong(p, "no such character or escape in quotes", NULL);
            return NULL;
        }
    } else {
        while (moi_graph_is_bare(moi_graph_peek(p, 0)) &&
            !(moi_graph_peek(p, 0) == '-' && moi_graph_peek(p, 1) == '>'))
            p->strings[p->n_strings++] = p->text[p->at++];
        if (p->at == p->token_at) {
            (void)moi_graph_wrong(p, what, NULL);
            return NULL;
        }
    }
    p->strings[p->n_strings++] = 0;
    return word;
}

/* ---- lines --------------------------------------------------------------------------------- */

static int moi_graph_read_category(const char *word, mo_category *category) {
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        if (strcmp(word, mo_category_name((mo_category)i)) == 0) {
            *category = (mo_category)i;
            return 1;
        }
    return 0;
}

static mo_status moi_graph_tensor_option(moi_graph_parser *p, mo_graph_tensor *tensor) {
    const char *word = moi_graph_word(p, "expected an option"), *value;
    size_t at = p->token_at;
    if (!word) return MO_E_FORMAT;
    if (strcmp(word, "input") == 0) tensor->flags |= MO_GRAPH_INPUT;
    else if (strcmp(word, "output") == 0) tensor->flags |= MO_GRAPH_OUTPUT;
    else if (strcmp(word, "reuse") == 0) tensor->flags |= MO_GRAPH_REUSE;
    else if (moi_graph_accept(p, "=")) {
        if (!(value = moi_graph_word(p, "expected a value"))) return MO_E_FORMAT;
        if (strcmp(word, "align") == 0 && moi_graph_read_bytes(value, &tensor->align)) return MO_OK;
        if (strcmp(word, "category") == 0 && moi_graph_read_category(value, &tensor->category))
            return MO_OK;
        p->token_at = at;
        return moi_graph_wrong(p, "no such option, or no such value of", word);
    } else {
        p->token_at = at;
        return moi_graph_wrong(p, "no such option of a tensor:", word);
    }
    return MO_OK;
}

static mo_status moi_graph_tensor_line(moi_graph_parser *p) {
    mo_graph_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.name = moi_graph_word(p, "expected the name of the tensor");
    size_t name_at = p->token_at;
    const char *size = tensor.name ? moi_graph_word(p, "expected a number of bytes") : NULL;
    if (!size) return MO_E_FORMAT;
    if (!moi_graph_read_bytes(size, &tensor.size))
        return moi_graph_wrong(p, "no number of bytes that fits:", size);
    while (!moi_graph_at_end(p)) {
        mo_status status = moi_graph_tensor_option(p, &tensor);
        if (status != MO_OK) return status;
    }
    p->token_at = name_at;
    return mo_graph_add_tensor(p->graph, &tensor, NULL);
}

static mo_status moi_graph_op_option(moi_graph_parser *p, mo_graph_op *op) {
    const char *word = moi_graph_word(p, "expected an option or ':'"), *value;
    size_t at = p->token_at;
    if (!word) return MO_E_FORMAT;
    if (strcmp(word, "effect") == 0) op->flags |= MO_GRAPH_EFFECT;
    else if (strcmp(word, "random") == 0) op->flags |= MO_GRAPH_RANDOM;
    else if (moi_graph_accept(p, "=")) {
        if (!(value = moi_graph_word(p, "expected a value"))) return MO_E_FORMAT;
        if (strcmp(word, "cost") == 0 && moi_graph_read_seconds(value, &op->cost_s)) return MO_OK;
        if (strcmp(word, "attrs") == 0) {
            op->attrs = value;
            return MO_OK;
        }
        p->token_at = at;
        return moi_graph_wrong(p, "no such option, or no such value of", word);
    } else {
        p->token_at = at;
        return moi_graph_wrong(p, "no such option of an op:", word);
    }
    return MO_OK;
}

static mo_status moi_graph_read_tensor(moi_graph_parser *p, size_t *id) {
    const char *name = moi_graph_word(p, "expected the name of a tensor");
    if (!name) return MO_E_FORMAT;
    *id = moi_graph_find(p->graph, 0, name);
    return *id == SIZE_MAX ? moi_graph_wrong(p, "there is no tensor", name) : MO_OK;
}

static mo_status moi_graph_keep_number(
    moi_graph_parser *p, size_t **list, size_t *n, size_t *max, size_t id) {
    void *array = *list;
    mo_status status = moi_graph_reserve(p->graph, &array, *n, max, 1, sizeof **list);
    *list = (size_t *)array;
    if (status == MO_OK) (*list)[(*n)++] = id;
    return status;
}

static mo_status moi_graph_keep_pair(moi_graph_parser *p, size_t output, size_t input) {
    void *array = p->pairs;
    mo_status status =
        moi_graph_reserve(p->graph, &array, p->n_pairs, &p->max_pairs, 1, sizeof *p->pairs);
    p->pairs = (mo_graph_alias *)array;
    if (status != MO_OK) return status;
    p->pairs[p->n_pairs].output = output;
    p->pairs[p->n_pairs++].input = input;
    return MO_OK;
}

/* One output, with the inputs that it may take over: y=x=w */
static mo_status moi_graph_output(moi_graph_parser *p) {
    size_t output, input;
    mo_status status = moi_graph_read_tensor(p, &output);
    if (status == MO_OK)
        status = moi_graph_keep_number(p, &p->outputs, &p->n_outputs, &p->max_outputs, output);
    while (status == MO_OK && moi_graph_accept(p, "=")) {
        status = moi_graph_read_tensor(p, &input);
        if (status == MO_OK) status = moi_graph_keep_pair(p, output, input);
    }
    return status;
}

/* Inputs, the arrow, outputs. */
static mo_status moi_graph_op_tensors(moi_graph_parser *p) {
    mo_status status = MO_OK;
    size_t id;
    p->n_inputs = p->n_outputs = p->n_pairs = 0;
    while (status == MO_OK && !moi_graph_accept(p, "->")) {
        if (moi_graph_at_end(p)) return moi_graph_wrong(p, "expected '->'", NULL);
        status = moi_graph_read_tensor(p, &id);
        if (status == MO_OK)
            status = moi_graph_keep_number(p, &p->inputs, &p->n_inputs, &p->max_inputs, id);
    }
    while (status == MO_OK && !moi_graph_at_end(p)) status = moi_graph_output(p);
    return status;
}

static mo_status moi_graph_op_line(moi_graph_parser *p) {
    mo_graph_op op;
    mo_status status = MO_OK;
    memset(&op, 0, sizeof op);
    op.name = moi_graph_word(p, "expected the name of the op");
    size_t name_at = p->token_at;
    if (!op.name || !(op.kind = moi_graph_word(p, "expected the kind of the op")))
        return MO_E_FORMAT;
    while (status == MO_OK && !moi_graph_accept(p, ":")) status = moi_graph_op_option(p, &op);
    if (status == MO_OK) status = moi_graph_op_tensors(p);
    if (status != MO_OK) return status;
    op.inputs = p->inputs;
    op.n_inputs = p->n_inputs;
    op.outputs = p->outputs;
    op.n_outputs = p->n_outputs;
    op.aliases = p->pairs;
    op.n_aliases = p->n_pairs;
    p->token_at = name_at;
    return mo_graph_add_op(p->graph, &op, NULL);
}

static mo_status moi_graph_line(moi_graph_parser *p) {
    mo_status status = MO_E_INVALID;
    p->n_strings = 0;
    p->line_at = p->at;
    if (!moi_graph_at_end(p)) {
        const char *word = moi_graph_word(p, "expected 'tensor' or 'op'");
        if (!word) return MO_E_FORMAT;
        if (strcmp(word, "tensor") == 0) status = moi_graph_tensor_line(p);
        else if (strcmp(word, "op") == 0) status = moi_graph_op_line(p);
        else return moi_graph_wrong(p, "expected 'tensor' or 'op' in place of", word);
        if (status != MO_OK) return status == MO_E_INVALID ? MO_E_FORMAT : status;
    }
    while (p->at < p->size && p->text[p->at] != '\n') p->at++;
    p->at += p->at < p->size;
    p->line++;
    return MO_OK;
}

/* ---- parse --------------------------------------------------------------------------------- */

static mo_status moi_graph_parse_lines(moi_graph_parser *p) {
    const mo_allocator *allocator = &p->graph->allocator;
    mo_status status = MO_OK;
    size_t n_strings;
    if (!moi_add(p->size, 2, &n_strings)) return MO_E_OVERFLOW;
    p->strings = (char *)moi_alloc_array(allocator, n_strings, 1);
    if (!p->strings) return MO_E_NO_MEMORY;
    while (status == MO_OK && p->at < p->size) status = moi_graph_line(p);
    moi_free_array(allocator, p->strings, n_strings, 1);
    moi_free_array(allocator, p->inputs, p->max_inputs, sizeof *p->inputs);
    moi_free_array(allocator, p->outputs, p->max_outputs, sizeof *p->outputs);
    moi_free_array(allocator, p->pairs, p->max_pairs, sizeof *p->pairs);
    return status;
}

mo_status mo_graph_parse(
    const mo_graph_desc *desc, const char *text, size_t size, mo_graph **graph) {
    moi_graph_parser p;
    memset(&p, 0, sizeof p);
    if (!graph || (!text && size)) return MO_E_INVALID;
    mo_status status = mo_graph_create(desc, &p.graph);
    if (status != MO_OK) return status;
    p.log = p.graph->log;
    p.text = text;
    p.size = size;
    p.line = 1;
    p.graph->log.write = moi_graph_relay;
    p.graph->log.self = &p;
    status = moi_graph_parse_lines(&p);
    p.graph->log = p.log;
    if (status == MO_OK) *graph = p.graph;
    else mo_graph_destroy(p.graph);
    return status;
}

/* ---- write --------------------------------------------------------------------------------- */

static void moi_graph_put_quoted(moi_track_out *out, const char *text) {
    moi_track_put(out, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 32 || c == 127) moi_track_print(out, "\\x%02x", c);
        else if (c == '"' || c == '\\') moi_track_print(out, "\\%c", c);
        else moi_track_put(out, text, 1);
    }
    moi_track_put(out, "\"", 1);
}

static void moi_graph_put_name(moi_track_out *out, const char *before, const char *name) {
    size_t n = 0;
    moi_track_put(out, before, strlen(before));
    while (moi_graph_is_bare(name[n])) n++;
    if (name[n] == 0) moi_track_put(out, name, n);
    else moi_graph_put_quoted(out, name);
}

static void moi_graph_write_tensor(moi_track_out *out, const mo_graph *graph, size_t id) {
    const moi_graph_tensor *tensor = &graph->tensors[id];
    moi_graph_put_name(out, "tensor ", moi_graph_tensor_name(graph, id));
    moi_track_print(out, " %zu", tensor->size);
    if (tensor->flags & MO_GRAPH_INPUT) moi_track_print(out, " input");
    if (tensor->flags & MO_GRAPH_OUTPUT) moi_track_print(out, " output");
    if (tensor->flags & MO_GRAPH_REUSE) moi_track_print(out, " reuse");
    if (tensor->align) moi_track_print(out, " align=%zu", tensor->align);
    if (tensor->category != MO_CATEGORY_OTHER)
        moi_track_print(out, " category=%s", mo_category_name(tensor->category));
    moi_track_print(out, "\n");
}

static void moi_graph_write_op(moi_track_out *out, const mo_graph *graph, size_t id) {
    const moi_graph_op *op = &graph->ops[id];
    const mo_graph_alias *pair = graph->pairs + op->aliases, *end = pair + op->n_aliases;
    const char *attrs = moi_graph_text(graph, op->attrs);
    moi_graph_put_name(out, "op ", moi_graph_op_name(graph, id));
    moi_graph_put_name(out, " ", moi_graph_text(graph, op->kind));
    if (op->cost_s > 0) moi_track_print(out, " cost=%s", moi_graph_seconds(op->cost_s).text);
    if (op->flags & MO_GRAPH_EFFECT) moi_track_print(out, " effect");
    if (op->flags & MO_GRAPH_RANDOM) moi_track_print(out, " random");
    if (attrs[0]) {
        moi_track_print(out, " attrs=");
        moi_graph_put_quoted(out, attrs);
    }
    moi_track_print(out, " :");
    for (size_t i = 0; i < op->n_inputs; i++)
        moi_graph_put_name(out, " ", moi_graph_tensor_name(graph, graph->numbers[op->inputs + i]));
    moi_track_print(out, " ->");
    for (size_t i = 0; i < op->n_outputs; i++) {
        size_t output = graph->numbers[op->outputs + i];
        moi_graph_put_name(out, " ", moi_graph_tensor_name(graph, output));
        for (; pair < end && pair->output == output; pair++)
            moi_graph_put_name(out, "=", moi_graph_tensor_name(graph, pair->input));
    }
    moi_track_print(out, "\n");
}

mo_status mo_graph_write(const mo_graph *graph, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!graph || !writer || !writer->write) return MO_E_INVALID;
    for (size_t i = 0; i < graph->n_tensors; i++) moi_graph_write_tensor(&out, graph, i);
    for (size_t i = 0; i < graph->n_ops; i++) moi_graph_write_op(&out, graph, i);
    return out.status;
}
