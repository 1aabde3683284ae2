/* Versions as people write them, in a total order (up to spelling: `v1.2`, `1_2` and `1.2.0` are one version).
 *
 * A text becomes: release numbers, a stage (pre-release, release, post-release), and what follows. The order compares
 * these keys, never a pair of texts by rules of its own, so it is transitive whatever is compared.
 *  - Separators `.` `_` `-` `+` and every border of letters and digits split. Numbers compare as numbers of any length.
 *  - A leading `v` before a digit is dropped; so is a variant in brackets at the end (Tasmota's `13.4.0(tasmota)`).
 *  - Zeros at the end of the release numbers say nothing: 1.2 = 1.2.0.
 *  - A text that is a semantic version (MAJOR.MINOR.PATCH[-pre][+build], semver.org 2.0.0) has semver's precedence:
 *    identifiers are whole, the build is ignored.
 *  - Elsewhere a word after the numbers makes a pre-release (`3.2.2beta`, `1.0-rc2`), save the words that people put on
 *    what comes after (`p`, `patch`, `post`, `r`, `rev`, `fix`, `hotfix`, `sp`, `final`, `release`, …) and a single
 *    letter at the end (`1.2a` follows `1.2`).
 */
#ifndef PROTO_VERSION_H
#define PROTO_VERSION_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

#define VERSION_TEXT_MAX  64 /* bytes, without the NUL */
#define VERSION_TOKEN_MAX 24

struct version {
    char text[VERSION_TEXT_MAX + 1]; /* as written; "" = no version */
    uint8_t stage;
    uint8_t release_count; /* tokens[0 .. release_count) are the release numbers */
    uint8_t token_count;
    struct {
        uint8_t at, len; /* in text; a number without its leading zeros */
        bool is_number;
    } tokens[VERSION_TOKEN_MAX];
};

/* STATUS_INVALID: empty, no digit in it, or bytes that are not printable ASCII.
 * STATUS_TOO_LONG: over VERSION_TEXT_MAX bytes or VERSION_TOKEN_MAX parts. *version is written only on STATUS_OK. */
enum status version_parse(struct slice text, struct version *version);

/* < 0, 0, > 0 as a comes before, equals, or follows b. Both come from version_parse. */
int version_compare(const struct version *a, const struct version *b);

/* Whether a text reads as a version and nothing else: numbers with pre- or post-release words (`0_4_99`, `1.0rc2`),
 * or a semantic version. `32_cam_1_0` does not (repo/filename splits names by this). */
bool version_is_plain(struct slice text);

/* Whether two texts name the same version: by order where both read as versions (0.4.9 is 0_4_9), else byte by byte. ""
 * names none, and so is the same as nothing. */
bool version_same_text(struct slice a, struct slice b);

#endif
