/* Templates of topics and payloads: checked once, filled in for each command, read backwards for each report.
 *
 * What makes it hard: a template that is fine with one value must be fine with all. So a check never tries samples: in
 * a JSON payload a value may stand inside a string, where it is escaped, or be a whole number of its own, and nowhere
 * else; in a topic it is a piece of one level and has a longest form.
 */
#include "proto/template.h"

#include "proto/type.h"

#include <assert.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TOPIC_BYTES_MAX 256

#define IN(use)      (1u << (use))
#define IN_COMMANDS  (IN(TEMPLATE_TOPIC_TYPE) | IN(TEMPLATE_TOPIC_DEVICE) | IN(TEMPLATE_PAYLOAD))
#define OF_ONE       (IN(TEMPLATE_TOPIC_DEVICE) | IN(TEMPLATE_TOPIC_FROM) | IN(TEMPLATE_PAYLOAD))
#define OF_ANY       (IN_COMMANDS | OF_ONE)
#define MAC_DIGITS   12
#define TAIL_DIGITS  6
#define LITERAL      (-1)
#define NO_SUCH_WORD (-2)

static const char *const words[TEMPLATE_PLACE_COUNT] = {
#define X(name, word, text) word,
    TEMPLATE_PLACE_LIST(X)
#undef X
};

static const struct {
    size_t longest; /* bytes of a value */
    unsigned uses;  /* where it may stand: a report's topic names a type and a device, and nothing else is read there */
    bool is_number;
} places[TEMPLATE_PLACE_COUNT] = {
    [TEMPLATE_TYPE] = { TYPE_TEXT_MAX, OF_ANY, false },
    [TEMPLATE_MAC] = { MAC_DIGITS, OF_ONE, false },
    [TEMPLATE_MAC_TAIL] = { TAIL_DIGITS, OF_ONE, false },
    [TEMPLATE_VERSION] = { 64, IN_COMMANDS, false },
    [TEMPLATE_URL] = { 640, IN(TEMPLATE_PAYLOAD), false },
    [TEMPLATE_MD5] = { 32, IN_COMMANDS, false },
    [TEMPLATE_SIZE] = { 15, IN_COMMANDS, true },
    [TEMPLATE_MODE] = { 6, IN_COMMANDS, false },
    [TEMPLATE_ID] = { 32, IN_COMMANDS, false },
    [TEMPLATE_WINDOW] = { 10, IN_COMMANDS, true },
};

/* A run of literal bytes, or one place. */
struct piece {
    int place; /* enum template_place, LITERAL or NO_SUCH_WORD */
    struct slice text;
};

static bool is_word_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Bytes of the `{word}` that the text begins with; 0 = it begins with none. */
static size_t place_length(struct slice text)
{
    size_t at = 1;
    if (text.len == 0 || text.at[0] != '{') {
        return 0;
    }
    while (at < text.len && is_word_character(text.at[at])) {
        at++;
    }
    return at > 1 && at < text.len && text.at[at] == '}' ? at + 1 : 0;
}

static int place_of(struct slice word)
{
    for (int i = 0; i < TEMPLATE_PLACE_COUNT; i++) {
        if (slice_is(word, words[i])) {
            return i;
        }
    }
    return NO_SUCH_WORD;
}

/* Takes the next piece off the front; false at the end. */
static bool next_piece(struct slice *rest, struct piece *piece)
{
    if (rest->len == 0) {
        return false;
    }
    size_t n = place_length(*rest);
    if (n > 0) {
        piece->place = place_of((struct slice){ rest->at + 1, n - 2 });
    } else {
        piece->place = LITERAL;
        for (n = 1; n < rest->len && place_length((struct slice){ rest->at + n, rest->len - n }) == 0; n++) {
        }
    }
    piece->text = (struct slice){ rest->at, n };
    rest->at += n;
    rest->len -= n;
    return true;
}

/* The same up to the next `/`, which is dropped. A place holds no `/`. */
static struct slice next_level(struct slice *rest)
{
    const char *slash = memchr(rest->at, '/', rest->len);
    struct slice level = { rest->at, slash != NULL ? (size_t)(slash - rest->at) : rest->len };
    size_t taken = level.len + (slash != NULL);
    rest->at = slash != NULL ? rest->at + taken : NULL; /* absent: that was the last level */
    rest->len -= taken;
    return level;
}

static bool is_json(const char *text)
{
    return text[0] == '{' && place_length(slice_of(text)) == 0;
}

__attribute__((format(printf, 3, 4))) static enum status complain(char *why, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, size, format, args);
    va_end(args);
    return STATUS_INVALID;
}

static void list_places(enum template_use use, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < COUNT_OF(places) && used < size; i++) {
        if (places[i].uses & IN(use)) {
            used += (size_t)snprintf(to + used, size - used, "%s{%s}", used > 0 ? ", " : "", words[i]);
        }
    }
}

static const char *use_text(enum template_use use)
{
    switch (use) {
    case TEMPLATE_TOPIC_TYPE:
        return "the topic of a whole type";
    case TEMPLATE_TOPIC_DEVICE:
        return "the topic of one device";
    case TEMPLATE_TOPIC_FROM:
        return "a topic that devices publish to";
    case TEMPLATE_PAYLOAD:
        return "a payload";
    }
    return "a template";
}

/* How often each place stands in a text, and how long it can become. */
struct census {
    unsigned counts[TEMPLATE_PLACE_COUNT];
    unsigned total;
    size_t longest;
};

static enum status take_census(const char *text, enum template_use use, struct census *census, char *why, size_t size)
{
    struct slice rest = slice_of(text);
    size_t escape_factor = use == TEMPLATE_PAYLOAD && is_json(text) ? 2 : 1; /* each byte may get a backslash */
    struct piece piece;
    memset(census, 0, sizeof *census);
    while (next_piece(&rest, &piece)) {
        if (piece.place == LITERAL) {
            census->longest += piece.text.len;
        } else if (piece.place == NO_SUCH_WORD || !(places[piece.place].uses & IN(use))) {
            char list[160];
            list_places(use, list, sizeof list);
            return complain(why, size, "%.*s has no meaning in %s; there are %s", (int)piece.text.len, piece.text.at,
                            use_text(use), list);
        } else {
            census->counts[piece.place]++;
            census->total++;
            census->longest += escape_factor * places[piece.place].longest;
        }
    }
    return STATUS_OK;
}

/* The places that a topic must have to do its work. */
static enum status check_topic_places(const struct census *census, enum template_use use, char *why, size_t size)
{
    if (use == TEMPLATE_TOPIC_TYPE) {
        if (census->total > 0 && census->counts[TEMPLATE_TYPE] == 0) {
            return complain(why, size, "%s names no type, so one type's command would reach others: put {type} into it",
                            use_text(use));
        }
        return STATUS_OK;
    }
    if (census->counts[TEMPLATE_MAC] == 0 && census->counts[TEMPLATE_MAC_TAIL] == 0) {
        return complain(why, size, "%s must name the device: put {mac} or {mac_tail} into it", use_text(use));
    }
    for (size_t i = 0; i < COUNT_OF(places) && use == TEMPLATE_TOPIC_FROM; i++) {
        if (census->counts[i] > 1) {
            return complain(why, size, "{%s} stands twice in %s, which makes it ambiguous: write it once", words[i],
                            use_text(use));
        }
    }
    return STATUS_OK;
}

static enum status check_topic(const char *text, enum template_use use, const struct census *census, char *why,
                               size_t size)
{
    if (text[0] == '\0') {
        return complain(why, size, "%s is empty: give one such as updraft/{type}/{mac}/update", use_text(use));
    }
    if (strpbrk(text, "+#") != NULL) {
        return complain(why, size, "%s has a wildcard (+ or #): write a place such as {type} or {mac} instead",
                        use_text(use));
    }
    if (census->longest > TOPIC_BYTES_MAX) {
        complain(why, size, "%s can become %zu bytes long with the places filled in, %d are allowed: shorten it",
                 use_text(use), census->longest, TOPIC_BYTES_MAX);
        return STATUS_TOO_LONG;
    }
    return check_topic_places(census, use, why, size);
}

/* Follows JSON text to know whether a byte stands in a string. */
struct json_place {
    bool in_string;
    bool escaped;        /* the byte before is a backslash */
    bool string_has_one; /* the string at hand, or the last one, has a place in it */
};

static void json_step(struct json_place *json, char c)
{
    if (json->escaped) {
        json->escaped = false;
    } else if (json->in_string) {
        json->escaped = c == '\\';
        json->in_string = c != '"';
    } else if (c == '"') {
        json->in_string = true;
        json->string_has_one = false;
    }
}

/* Copies the literal; a place in a member's name could make two names alike. */
static bool copy_literal(struct json_place *json, struct slice text, char *to)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == ':' && !json->in_string && json->string_has_one) {
            return false;
        }
        json_step(json, text.at[i]);
        to[i] = text.at[i];
    }
    return true;
}

/* The template itself must be an object: in strings the places stay as they are, which JSON does not mind save behind a
 * backslash, where a value could change the meaning; numbers become 0 with blanks around, so that nothing can grow
 * together with them. */
static enum status check_json(const char *text, char *why, size_t size)
{
    char sample[TEMPLATE_TEXT_MAX + 1];
    struct json_place json = { 0 };
    struct slice rest = slice_of(text);
    struct piece piece;
    size_t used = 0;
    while (next_piece(&rest, &piece)) {
        if (piece.place == LITERAL) {
            if (!copy_literal(&json, piece.text, sample + used)) {
                return complain(why, size, "a place in the name of a member: write the name out");
            }
        } else if (json.in_string) {
            memcpy(sample + used, piece.text.at, piece.text.len);
            json.escaped = false;
            json.string_has_one = true;
        } else if (places[piece.place].is_number) {
            memset(sample + used, ' ', piece.text.len);
            sample[used + 1] = '0';
        } else {
            return complain(why, size, "{%s} stands outside quotes, which makes no JSON: write \"{%s}\"",
                            words[piece.place], words[piece.place]);
        }
        used += piece.text.len;
    }
    json_error_t error;
    json_t *object = json_loadb(sample, used, JSON_REJECT_DUPLICATES, &error);
    if (object == NULL) {
        return complain(why, size, "the payload begins with { and is no JSON object: %s; check quotes, commas, braces",
                        error.text);
    }
    assert(json_is_object(object)); /* of a text whose first byte is { */
    json_decref(object);
    return STATUS_OK;
}

enum status template_check(const char *text, enum template_use use, char *why, size_t size)
{
    struct census census;
    if (strlen(text) > TEMPLATE_TEXT_MAX) {
        complain(why, size, "%s of %zu bytes, %d are allowed: shorten it", use_text(use), strlen(text),
                 TEMPLATE_TEXT_MAX);
        return STATUS_TOO_LONG;
    }
    if (!text_is_clean_utf8(slice_of(text))) {
        return complain(why, size, "%s has control bytes or is no UTF-8: write it as plain text", use_text(use));
    }
    enum status status = take_census(text, use, &census, why, size);
    if (status != STATUS_OK) {
        return status;
    }
    if (use != TEMPLATE_PAYLOAD) {
        return check_topic(text, use, &census, why, size);
    }
    if (census.longest > TEMPLATE_FILLED_MAX) {
        complain(why, size,
                 "the payload can become %zu bytes long with the places filled in, %d are allowed: shorten it",
                 census.longest, TEMPLATE_FILLED_MAX);
        return STATUS_TOO_LONG;
    }
    return is_json(text) ? check_json(text, why, size) : STATUS_OK;
}

static bool is_plain_number(struct slice text)
{
    uint64_t number;
    return (text.len == 1 || (text.len > 0 && text.at[0] != '0')) && number_parse(text, UINT64_MAX, &number);
}

/* A value that keeps what template_check promised: of no more bytes, and in a topic within its level. */
static bool value_fits(enum template_place place, struct slice value, enum template_use use)
{
    if (value.at == NULL || value.len > places[place].longest || !text_is_clean_utf8(value)) {
        return false;
    }
    if (places[place].is_number && !is_plain_number(value)) {
        return false;
    }
    return use == TEMPLATE_PAYLOAD || (value.len > 0 && strpbrk(value.at, "/+#") == NULL);
}

struct output {
    char *to;
    size_t size, used;
};

static bool put(struct output *output, const char *bytes, size_t n)
{
    if (n >= output->size - output->used) {
        return false;
    }
    memcpy(output->to + output->used, bytes, n);
    output->used += n;
    output->to[output->used] = '\0';
    return true;
}

/* Clean UTF-8 needs no other escapes in JSON. */
static bool put_value(struct output *output, struct slice value, bool escape)
{
    for (size_t i = 0; i < value.len; i++) {
        bool special = escape && (value.at[i] == '"' || value.at[i] == '\\');
        if ((special && !put(output, "\\", 1)) || !put(output, value.at + i, 1)) {
            return false;
        }
    }
    return true;
}

bool template_expand(const char *text, enum template_use use, const struct template_values *values, char *to,
                     size_t size)
{
    assert(size > 0);
    struct output output = { to, size, 0 };
    struct slice rest = slice_of(text);
    struct piece piece;
    bool fits = true;
    bool escape = use == TEMPLATE_PAYLOAD && is_json(text);
    to[0] = '\0';
    while (fits && next_piece(&rest, &piece)) {
        assert(piece.place != NO_SUCH_WORD); /* template_check */
        if (piece.place == LITERAL) {
            fits = put(&output, piece.text.at, piece.text.len);
        } else {
            enum template_place place = (enum template_place)piece.place;
            struct slice value = slice_of(values->texts[place]);
            fits = value_fits(place, value, use) && put_value(&output, value, escape);
        }
    }
    if (!fits) {
        to[0] = '\0';
    }
    return fits;
}

static bool has_place(struct slice level)
{
    struct piece piece;
    while (next_piece(&level, &piece)) {
        if (piece.place != LITERAL) {
            return true;
        }
    }
    return false;
}

bool template_filter(const char *text, char *to, size_t size)
{
    assert(size > 0);
    struct output output = { to, size, 0 };
    bool fits = true;
    to[0] = '\0';
    for (struct slice rest = slice_of(text); fits && rest.at != NULL;) {
        struct slice level = next_level(&rest);
        fits = has_place(level) ? put(&output, "+", 1) : put(&output, level.at, level.len);
        fits = fits && (rest.at == NULL || put(&output, "/", 1));
    }
    if (!fits) {
        to[0] = '\0';
    }
    return fits;
}

static bool read_value(int place, struct slice value, struct template_match *match)
{
    switch (place) {
    case TEMPLATE_TYPE:
        match->type = value;
        return type_is_valid(value);
    case TEMPLATE_MAC:
        match->has_mac = mac_parse(value, &match->mac);
        return match->has_mac;
    case TEMPLATE_MAC_TAIL:
        match->has_mac_tail = hex_decode(value, match->mac_tail, sizeof match->mac_tail);
        return match->has_mac_tail;
    default:
        return false;
    }
}

/* Of all places only a type has no length of its own, and it stands once: so it is what the others leave over. */
static size_t fixed_length(struct slice pattern)
{
    size_t n = 0;
    struct piece piece;
    while (next_piece(&pattern, &piece)) {
        n += piece.place == LITERAL ? piece.text.len : piece.place == TEMPLATE_MAC ? MAC_DIGITS : 0;
        n += piece.place == TEMPLATE_MAC_TAIL ? TAIL_DIGITS : 0;
    }
    return n;
}

static bool match_level(struct slice pattern, struct slice level, struct template_match *match)
{
    size_t fixed = fixed_length(pattern);
    size_t type_length = level.len > fixed ? level.len - fixed : 0;
    struct piece piece;
    while (next_piece(&pattern, &piece)) {
        assert(piece.place != NO_SUCH_WORD); /* template_check */
        size_t n = piece.place == LITERAL         ? piece.text.len
                   : piece.place == TEMPLATE_TYPE ? type_length
                                                  : places[piece.place].longest;
        struct slice value = { level.at, n };
        if (n > level.len || (piece.place == LITERAL ? memcmp(value.at, piece.text.at, n) != 0
                                                     : !read_value(piece.place, value, match))) {
            return false;
        }
        level.at += n;
        level.len -= n;
    }
    return level.len == 0;
}

bool template_match(const char *text, struct slice topic, struct template_match *match)
{
    struct template_match found;
    struct slice pattern = slice_of(text);
    memset(&found, 0, sizeof found);
    while (pattern.at != NULL && topic.at != NULL) {
        struct slice wanted = next_level(&pattern);
        if (!match_level(wanted, next_level(&topic), &found)) {
            return false;
        }
    }
    if (pattern.at != NULL || topic.at != NULL) {
        return false;
    }
    if (found.has_mac && found.has_mac_tail && memcmp(found.mac.bytes + 3, found.mac_tail, 3) != 0) {
        return false; /* one topic, two devices */
    }
    *match = found;
    return true;
}
