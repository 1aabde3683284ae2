/* Three texts, split by newlines, read as versions: the laws of an order hold between whichever of them are
 * versions. */
#include "proto/version.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

static void check_one(struct slice text, const struct version *version)
{
    assert(strlen(version->text) == text.len && memcmp(version->text, text.at, text.len) == 0);
    assert(version->release_count <= version->token_count && version->token_count <= VERSION_TOKEN_MAX);
    for (size_t i = 0; i < version->token_count; i++) {
        assert((size_t)version->tokens[i].at + version->tokens[i].len <= text.len);
        assert(version->tokens[i].is_number || i >= version->release_count);
    }
    assert(version->release_count == 0 || version->tokens[version->release_count - 1].len > 0);
    assert(version_compare(version, version) == 0);
}

/* A `v` in front, or a variant behind, changes nothing. */
static void check_spelling(struct slice text, const struct version *version)
{
    char other[VERSION_TEXT_MAX + 8] = "v";
    struct version spelled;
    if (text.len + 4 > VERSION_TEXT_MAX || text.at[0] < '0' || text.at[0] > '9') {
        return;
    }
    memcpy(other + 1, text.at, text.len);
    assert(version_parse(slice_of(other), &spelled) == STATUS_OK);
    assert(version_compare(version, &spelled) == 0);
    if (text.at[text.len - 1] != ')' && text.at[text.len - 1] != ' ') {
        memcpy(other + 1 + text.len, "(x)", sizeof "(x)");
        assert(version_parse(slice_of(other), &spelled) == STATUS_OK);
        assert(version_compare(version, &spelled) == 0);
    }
}

static void check_order(const struct version *a, const struct version *b, const struct version *c)
{
    int ab = sign(version_compare(a, b));
    int bc = sign(version_compare(b, c));
    int ac = sign(version_compare(a, c));
    assert(ab == -sign(version_compare(b, a)));
    assert(!(ab <= 0 && bc <= 0) || ac <= 0);
    assert(!(ab >= 0 && bc >= 0) || ac >= 0);
    assert(ab != 0 || ac == bc);
    assert(bc != 0 || ac == ab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct version versions[3];
    size_t count = 0;
    struct slice rest = { (const char *)data, size };
    for (int line = 0; line < 3; line++) {
        const char *newline = rest.len > 0 ? memchr(rest.at, '\n', rest.len) : NULL;
        struct slice text = { rest.at, newline != NULL ? (size_t)(newline - rest.at) : rest.len };
        struct version *version = &versions[count];
        enum status status = version_parse(text, version);
        assert(status == STATUS_OK || status == STATUS_INVALID || status == STATUS_TOO_LONG);
        assert(status == STATUS_OK || !version_is_plain(text));
        if (status == STATUS_OK) {
            check_one(text, version);
            check_spelling(text, version);
            count++;
        }
        rest.at += text.len + (newline != NULL);
        rest.len -= text.len + (newline != NULL);
    }
    if (count == 3) {
        check_order(&versions[0], &versions[1], &versions[2]);
        check_order(&versions[2], &versions[0], &versions[1]);
    }
    return 0;
}
