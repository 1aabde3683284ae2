/* Versions: each text becomes one key (release numbers, stage, identifiers); only keys are compared.
 *
 * What makes it hard: rules for pairs ("a beta precedes its release", "1.2a follows 1.2") easily contradict
 * each other in a circle, and a fleet then flashes for ever. So no rule here looks at two texts, and the
 * order of the keys is lexicographic, hence total.
 */
#include "proto/version.h"

#include <assert.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* In the order of versions with the same release numbers. */
enum stage {
    STAGE_UNNUMBERED, /* no number in front: a name such as DOOR-7-g14f53a19 */
    STAGE_PRE,
    STAGE_RELEASE,
    STAGE_POST,
};

/* Any single letter counts as post too (1.2a, 1.2p1, 1.2r3), see is_post_word. */
static const char *const post_words[] = {
    "pl", "patch", "post", "rev", "fix", "hotfix", "sp", "final", "ga", "release", "build",
};

/* These matter to version_is_plain alone: a word that nobody knows makes a pre-release as well. */
static const char *const pre_words[] = {
    "alpha", "beta", "rc", "pre", "preview", "prerelease", "dev", "snapshot", "nightly", "canary", "test",
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Where the run of digits, or of letters, that starts at `at` ends. */
static size_t run_end(const char *text, size_t at, size_t end)
{
    bool digits = is_digit(text[at]);
    while (at < end && (digits ? is_digit(text[at]) : is_letter(text[at]))) {
        at++;
    }
    return at;
}

static bool push(struct version *version, size_t at, size_t end, bool is_number)
{
    if (version->token_count == VERSION_TOKEN_MAX) {
        return false;
    }
    while (is_number && at < end && version->text[at] == '0') {
        at++;
    }
    version->tokens[version->token_count].at = (uint8_t)at;
    version->tokens[version->token_count].len = (uint8_t)(end - at);
    version->tokens[version->token_count].is_number = is_number;
    version->token_count++;
    return true;
}

/* All tokens so far are the release numbers; zeros at the end say nothing. */
static void close_release(struct version *version)
{
    while (version->token_count > 0 && version->tokens[version->token_count - 1].len == 0) {
        version->token_count--;
    }
    version->release_count = version->token_count;
}

/* Identifiers of a semantic version, from `*at` on; they are kept only if asked. False where the grammar
 * ends. */
static bool semver_identifiers(struct version *version, size_t *at, size_t end, bool keep)
{
    const char *text = version->text;
    for (;;) {
        size_t start = *at;
        bool digits = true;
        while (*at < end && (is_digit(text[*at]) || is_letter(text[*at]) || text[*at] == '-')) {
            digits = digits && is_digit(text[*at]);
            (*at)++;
        }
        if (*at == start) {
            return false;
        }
        bool leading_zero = digits && text[start] == '0' && *at - start > 1;
        if (keep && (leading_zero || !push(version, start, *at, digits))) {
            return false;
        }
        if (*at == end || text[*at] != '.') {
            return true;
        }
        (*at)++;
    }
}

/* MAJOR.MINOR.PATCH[-pre][+build] exactly (semver.org 2.0.0). Returns false on anything else, with tokens
 * left over. */
static bool semver_split(struct version *version, size_t at, size_t end)
{
    const char *text = version->text;
    for (int i = 0; i < 3; i++) {
        if (i > 0 && (at == end || text[at++] != '.')) {
            return false;
        }
        if (at == end || !is_digit(text[at])) {
            return false;
        }
        size_t stop = run_end(text, at, end);
        if ((text[at] == '0' && stop - at > 1) || !push(version, at, stop, true)) {
            return false;
        }
        at = stop;
    }
    close_release(version);
    version->stage = STAGE_RELEASE;
    if (at < end && text[at] == '-') {
        at++;
        version->stage = STAGE_PRE;
        if (!semver_identifiers(version, &at, end, true)) {
            return false;
        }
    }
    if (at < end && text[at] == '+') {
        at++;
        if (!semver_identifiers(version, &at, end, false)) {
            return false;
        }
    }
    return at == end;
}

static bool word_is_in(const char *word, size_t len, const char *const *words, size_t count)
{
    struct slice slice = { word, len };
    for (size_t i = 0; i < count; i++) {
        if (slice_is_nocase(slice, words[i])) {
            return true;
        }
    }
    return false;
}

/* Whether the word tokens[i] says that what it names follows the release. */
static bool is_post_word(const struct version *version, size_t i)
{
    const char *word = version->text + version->tokens[i].at;
    if (version->tokens[i].len > 1) {
        return word_is_in(word, version->tokens[i].len, post_words, COUNT_OF(post_words));
    }
    /* PEP 440: 1.2a1 is an alpha, 1.2b1 a beta; while 1.2a alone is the build after 1.2. */
    bool alpha_or_beta = *word == 'a' || *word == 'b' || *word == 'A' || *word == 'B';
    bool number_follows = i + 1 < version->token_count && version->tokens[i + 1].is_number;
    return !(alpha_or_beta && number_follows);
}

/* Any other text: whatever is no letter or digit separates. False where there are too many parts. */
static bool loose_split(struct version *version, size_t at, size_t end)
{
    const char *text = version->text;
    bool numbered = false;
    bool in_release = true;
    while (at < end) {
        bool digit = is_digit(text[at]);
        if (!digit && !is_letter(text[at])) {
            at++;
            continue;
        }
        if (in_release && !digit) {
            in_release = false;
            close_release(version);
        }
        numbered = numbered || in_release;
        size_t stop = run_end(text, at, end);
        if (!push(version, at, stop, digit)) {
            return false;
        }
        at = stop;
    }
    if (in_release) {
        close_release(version);
        version->stage = STAGE_RELEASE;
    } else if (!numbered) {
        version->stage = STAGE_UNNUMBERED;
    } else {
        version->stage = is_post_word(version, version->release_count) ? STAGE_POST : STAGE_PRE;
    }
    return true;
}

/* The part that counts: no blanks around it, no variant in brackets behind it, no `v` before its first digit.
 * Sources of the variant: Tasmota sends `13.4.0(tasmota)` as its version. */
static struct slice core_of(struct slice text)
{
    text = slice_trim(text);
    if (slice_ends_with(text, ")")) {
        size_t open = text.len - 1;
        while (open > 0 && text.at[open] != '(') {
            open--;
        }
        if (text.at[open] == '(') {
            text.len = open;
            text = slice_trim(text);
        }
    }
    if (text.len > 1 && (text.at[0] == 'v' || text.at[0] == 'V') && is_digit(text.at[1])) {
        text.at++;
        text.len--;
    }
    return text;
}

static bool has_digit(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (is_digit(text.at[i])) {
            return true;
        }
    }
    return false;
}

static bool is_printable_ascii(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < 0x20 || text.at[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

static enum status parse(struct slice text, struct version *version, bool *is_semver)
{
    if (text.len > VERSION_TEXT_MAX) {
        return STATUS_TOO_LONG;
    }
    if (!is_printable_ascii(text)) {
        return STATUS_INVALID;
    }
    struct version blank;
    memset(&blank, 0, sizeof blank);
    slice_copy(text, blank.text, sizeof blank.text);
    struct slice core = core_of((struct slice){ blank.text, text.len });
    if (!has_digit(core)) {
        return STATUS_INVALID;
    }
    size_t at = (size_t)(core.at - blank.text);
    struct version parsed = blank;
    *is_semver = semver_split(&parsed, at, at + core.len);
    if (!*is_semver) {
        parsed = blank;
        if (!loose_split(&parsed, at, at + core.len)) {
            return STATUS_TOO_LONG;
        }
    }
    *version = parsed;
    return STATUS_OK;
}

enum status version_parse(struct slice text, struct version *version)
{
    bool is_semver;
    return parse(text, version, &is_semver);
}

static int compare_sizes(size_t a, size_t b)
{
    return (a > b) - (a < b);
}

/* Numbers before words; numbers by length, having no leading zeros, then by digits; words byte by byte. */
static int compare_tokens(const struct version *a, size_t i, const struct version *b, size_t k)
{
    if (a->tokens[i].is_number != b->tokens[k].is_number) {
        return a->tokens[i].is_number ? -1 : 1;
    }
    size_t a_len = a->tokens[i].len;
    size_t b_len = b->tokens[k].len;
    if (a->tokens[i].is_number && a_len != b_len) {
        return compare_sizes(a_len, b_len);
    }
    int order = memcmp(a->text + a->tokens[i].at, b->text + b->tokens[k].at, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : compare_sizes(a_len, b_len);
}

/* Tokens [a_at, a_end) against [b_at, b_end); where one list begins the other, the shorter comes first. */
static int compare_lists(const struct version *a, size_t a_at, size_t a_end, const struct version *b, size_t b_at,
                         size_t b_end)
{
    while (a_at < a_end && b_at < b_end) {
        int order = compare_tokens(a, a_at++, b, b_at++);
        if (order != 0) {
            return order;
        }
    }
    return compare_sizes(a_end - a_at, b_end - b_at);
}

int version_compare(const struct version *a, const struct version *b)
{
    assert(a->token_count <= VERSION_TOKEN_MAX && a->release_count <= a->token_count);
    assert(b->token_count <= VERSION_TOKEN_MAX && b->release_count <= b->token_count);
    assert(a->text[0] != '\0' && b->text[0] != '\0'); /* "no version" has no place in the order */
    if (strcmp(a->text, b->text) == 0) {
        return 0; /* what most devices say of what is offered; tokens follow from the text alone */
    }
    int order = compare_lists(a, 0, a->release_count, b, 0, b->release_count);
    if (order == 0) {
        order = (int)a->stage - (int)b->stage;
    }
    if (order == 0) {
        order = compare_lists(a, a->release_count, a->token_count, b, b->release_count, b->token_count);
    }
    return order;
}

/* Letters and digits, with one of `.` `_` `-` `+` between at most. */
static bool is_tidy(struct slice text)
{
    bool after_separator = true;
    for (size_t i = 0; i < text.len; i++) {
        bool separator = !is_digit(text.at[i]) && !is_letter(text.at[i]);
        if (separator && (after_separator || memchr("._-+", text.at[i], 4) == NULL)) {
            return false;
        }
        after_separator = separator;
    }
    return !after_separator;
}

bool version_is_plain(struct slice text)
{
    struct version version;
    bool is_semver;
    if (parse(text, &version, &is_semver) != STATUS_OK || version.stage == STAGE_UNNUMBERED) {
        return false;
    }
    bool bracket_or_blank = memchr(text.at, ')', text.len) != NULL || memchr(text.at, ' ', text.len) != NULL;
    if (is_semver && !bracket_or_blank) {
        return true;
    }
    if (!is_tidy(text)) {
        return false;
    }
    for (size_t i = version.release_count; i < version.token_count; i++) {
        const char *word = version.text + version.tokens[i].at;
        size_t len = version.tokens[i].len;
        if (!version.tokens[i].is_number && len > 1 && !word_is_in(word, len, post_words, COUNT_OF(post_words)) &&
            !word_is_in(word, len, pre_words, COUNT_OF(pre_words))) {
            return false;
        }
    }
    return true;
}

bool version_same_text(struct slice a, struct slice b)
{
    struct version left, right;
    if (a.len == 0 || b.len == 0) {
        return false;
    }
    if (version_parse(a, &left) == STATUS_OK && version_parse(b, &right) == STATUS_OK) {
        return version_compare(&left, &right) == 0;
    }
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}
