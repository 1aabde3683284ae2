#include "cli/args.h"

#include "base/nearest.h"
#include "base/text.h"
#include "cli/shown.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAC_DIGITS      12
#define SECONDS_MAX     86400 /* the server's limit; said before anything is sent */
#define SPAN_DAYS_MAX   36500ull
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* --- one value ---------------------------------------------------------------------------------------------------- */

/* Six bytes in hexadecimal, with one kind of separator between bytes (or, with points, between pairs), or with none.
 * Zeros and group addresses name no device. */
static bool mac_normalise(struct slice text, char to[MAC_DIGITS + 1])
{
    static const struct {
        size_t length, group; /* characters in all, digits between separators */
        const char *separators;
    } forms[] = { { 12, 12, "" }, { 17, 2, ":-." }, { 14, 4, "." } };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        if (text.len != forms[i].length) {
            continue;
        }
        char digits[MAC_DIGITS + 1] = "", separator = text.at[forms[i].group < text.len ? forms[i].group : 0];
        size_t used = 0;
        for (size_t k = 0; k < text.len; k++) {
            bool between = k % (forms[i].group + 1) == forms[i].group;
            if (between && (text.at[k] != separator || strchr(forms[i].separators, separator) == NULL)) {
                return false;
            }
            if (!between) {
                digits[used++] = text.at[k];
            }
        }
        uint8_t bytes[6];
        static const uint8_t zeros[6];
        if (!hex_decode((struct slice){ digits, used }, bytes, 6) || (bytes[0] & 1) != 0 ||
            memcmp(bytes, zeros, sizeof zeros) == 0) {
            return false;
        }
        hex_encode(bytes, 6, to);
        return true;
    }
    return false;
}

typedef bool (*value_fn)(const struct flag *flag, struct slice text, char *to, size_t size); /* false: not usable */

static bool value_text(const struct flag *flag, struct slice text, char *to, size_t size)
{
    (void)flag;
    return slice_copy(text, to, size);
}

static bool value_choice(const struct flag *flag, struct slice text, char *to, size_t size)
{
    for (const char *word = flag->value; word != NULL; word = strchr(word, '|')) {
        word += *word == '|';
        if (strcspn(word, "|") == text.len && memcmp(word, text.at, text.len) == 0) {
            return slice_copy(text, to, size);
        }
    }
    return false;
}

static bool value_mac(const struct flag *flag, struct slice text, char *to, size_t size)
{
    (void)flag;
    assert(size > MAC_DIGITS);
    return mac_normalise(text, to);
}

static bool value_macs(const struct flag *flag, struct slice text, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t at = 0; at <= text.len;) {
        const char *comma = memchr(text.at + at, ',', text.len - at);
        size_t end = comma != NULL ? (size_t)(comma - text.at) : text.len;
        char mac[MAC_DIGITS + 1];
        if (!value_mac(flag, slice_trim((struct slice){ text.at + at, end - at }), mac, sizeof mac)) {
            return false;
        }
        if (strstr(to, mac) == NULL) { /* digits and commas alone, so a match is a whole one */
            used += (size_t)snprintf(to + used, size - used, "%s%s", used > 0 ? "," : "", mac);
            assert(used < size);
        }
        at = end + 1;
    }
    return true;
}

bool args_mac(const char *word, char mac[ARGS_MAC_SIZE])
{
    return mac_normalise(slice_of(word), mac);
}

static bool value_hex(const struct flag *flag, struct slice text, char *to, size_t size)
{
    uint8_t bytes[32];
    size_t n = flag->kind == FLAG_MD5 ? 16 : 32;
    assert(size > 2 * n);
    if (!hex_decode(text, bytes, n)) {
        return false;
    }
    hex_encode(bytes, n, to);
    return true;
}

static bool value_bytes(const struct flag *flag, struct slice text, char *to, size_t size)
{
    (void)flag;
    uint64_t bytes;
    if (!size_parse(text, UINT32_MAX, &bytes) || bytes == 0) {
        return false;
    }
    snprintf(to, size, "%" PRIu64, bytes);
    return true;
}

static bool value_seconds(const struct flag *flag, struct slice text, char *to, size_t size)
{
    uint64_t seconds, ms;
    if (!number_parse(text, SECONDS_MAX, &seconds)) {
        if (!duration_parse(text, SECONDS_MAX * 1000ull, &ms) || ms % 1000 != 0) {
            return false;
        }
        seconds = ms / 1000;
    }
    if (flag->kind == FLAG_TIMEOUT && seconds == 0) {
        return false;
    }
    snprintf(to, size, "%" PRIu64, seconds);
    return true;
}

/* Longer times: "90d", or as above. */
static bool value_span(const struct flag *flag, struct slice text, char *to, size_t size)
{
    uint64_t seconds, ms;
    (void)flag;
    if (text.len > 0 && text.at[text.len - 1] == 'd') {
        text.len--;
        if (!number_parse(text, SPAN_DAYS_MAX, &seconds)) {
            return false;
        }
        seconds *= 86400;
    } else if (duration_parse(text, SPAN_DAYS_MAX * 86400 * 1000, &ms) && ms % 1000 == 0) {
        seconds = ms / 1000;
    } else {
        return false;
    }
    snprintf(to, size, "%" PRIu64, seconds);
    return seconds > 0;
}

static bool value_number(const struct flag *flag, struct slice text, char *to, size_t size)
{
    static const struct {
        uint64_t least, most;
        bool percent;
    } bounds[] = {
        [FLAG_PERCENT] = { 1, 100, true }, [FLAG_SHARE] = { 0, 100, true },
        [FLAG_FEW] = { 0, 10000, false }, /* these as the server takes them */
        [FLAG_PAGE] = { 1, 1000, false },  [FLAG_MANY] = { 1, 100000, false },
    };
    uint64_t number;
    assert(flag->kind < COUNT_OF(bounds));
    text.len -= bounds[flag->kind].percent && slice_ends_with(text, "%") ? 1 : 0;
    if (!number_parse(text, bounds[flag->kind].most, &number) || number < bounds[flag->kind].least) {
        return false;
    }
    snprintf(to, size, "%" PRIu64, number);
    return true;
}

static const struct {
    value_fn read;
    const char *remedy;
} kinds[] = {
    [FLAG_TEXT] = { value_text, "" },
    [FLAG_CHOICE] = { value_choice, "" },
    [FLAG_MAC] = { value_mac, ARGS_MAC_HELP },
    [FLAG_MACS] = { value_macs, "give MAC addresses with commas between, such as 5c:cf:7f:b1:e0:42,5ccf7fb1e043" },
    [FLAG_MD5] = { value_hex, "give 32 hexadecimal digits" },
    [FLAG_SHA256] = { value_hex, "give 64 hexadecimal digits" },
    [FLAG_BYTES] = { value_bytes, "give a size such as 1048576, 512K or 4M, from 1 to 4294967295 bytes" },
    [FLAG_SECONDS] = { value_seconds, "give whole seconds, or a time such as 90s, 5m or 1h, from 0 to 24h" },
    [FLAG_TIMEOUT] = { value_seconds, "give whole seconds, or a time such as 90s, 5m or 1h, from 1s to 24h" },
    [FLAG_SPAN] = { value_span, "give a time such as 30m, 12h or 90d, from 1s to 36500d" },
    [FLAG_PERCENT] = { value_number, "give a percentage from 1 to 100, such as 10%" },
    [FLAG_SHARE] = { value_number, "give a percentage from 0 to 100, such as 20%" },
    [FLAG_FEW] = { value_number, "give a whole number from 0 to 10000" },
    [FLAG_PAGE] = { value_number, "give a whole number from 1 to 1000" },
    [FLAG_MANY] = { value_number, "give a whole number from 1 to 100000" },
};

/* The text in its one form, to be freed; NULL, with a message, where it cannot be used. */
static char *value_read(const struct flag *flag, const char *text, char *message, size_t size)
{
    /* Seconds and bytes may grow ("1G" to ten digits), MACs without separators only by nothing. */
    size_t room = strlen(text) + 96;
    char *value = must(malloc(room));
    if (text[0] != '\0' && kinds[flag->kind].read(flag, slice_of(text), value, room)) {
        return value;
    }
    free(value);
    if (text[0] == '\0') {
        snprintf(message, size, "--%s is empty: give it a value", flag->name);
    } else if (flag->kind == FLAG_CHOICE) {
        snprintf(message, size, "--%s: \"%s\" is not usable: give one of %s", flag->name, text, flag->value);
    } else {
        snprintf(message, size, "--%s: \"%s\" is not usable: %s", flag->name, text, kinds[flag->kind].remedy);
    }
    return NULL;
}

/* --- the line ----------------------------------------------------------------------------------------------------- */

/* The flag of an argument `--name` or `--name=…`; NULL where the table has none. */
static const struct flag *flag_find(const struct flag *flags, const char *argument)
{
    struct slice name = { argument + 2, strcspn(argument + 2, "=") };
    for (const struct flag *flag = flags; flag->name != NULL; flag++) {
        if (slice_is(name, flag->name)) {
            return flag;
        }
    }
    return NULL;
}

static bool is_flag(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0';
}

int args_first_word(const struct flag *flags, int argc, const char *const *argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            return i + 1 < argc ? i + 1 : argc;
        }
        if (!is_flag(argv[i])) {
            return i;
        }
        const struct flag *flag = argv[i][1] == '-' ? flag_find(flags, argv[i]) : NULL;
        if (flag != NULL && flag->kind != FLAG_SWITCH && strchr(argv[i], '=') == NULL) {
            i++;
        }
    }
    return argc;
}

static void say_unknown(const struct flag *flags, const char *argument, char *message, size_t size)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    struct nearest nearest = { .wanted = name + strspn(name, "-") };
    for (const struct flag *flag = flags; flag->name != NULL; flag++) {
        nearest_try(&nearest, flag->name);
    }
    if (nearest.name != NULL) {
        snprintf(message, size, "unknown flag %s: did you mean --%s?", name, nearest.name);
    } else {
        snprintf(message, size, "unknown flag %s: --help lists those there are", name);
    }
}

/* Takes the flag at argv[0] and its value; *taken says how many arguments these are. */
static bool take_flag(struct args *args, const struct flag *flags, int argc, const char *const *argv, int *taken,
                      char *message, size_t size)
{
    const struct flag *flag = strncmp(argv[0], "--", 2) == 0 ? flag_find(flags, argv[0]) : NULL;
    const char *equals = strchr(argv[0], '=');
    if (flag == NULL) {
        say_unknown(flags, argv[0], message, size);
        return false;
    }
    if (args_has(args, flag->name)) {
        snprintf(message, size, "--%s is given twice: give it once%s", flag->name,
                 flag->kind == FLAG_MACS ? ", with commas between the MACs" : "");
        return false;
    }
    const char *text = equals != NULL ? equals + 1 : NULL;
    if (flag->kind == FLAG_SWITCH && text != NULL) {
        snprintf(message, size, "--%s takes no value: leave \"=%s\" out", flag->name, text);
        return false;
    }
    *taken = 1;
    if (flag->kind != FLAG_SWITCH && text == NULL) {
        if (argc < 2 || strncmp(argv[1], "--", 2) == 0) {
            snprintf(message, size, "--%s needs a value: --%s %s", flag->name, flag->name, flag->value);
            return false;
        }
        text = argv[1];
        *taken = 2;
    }
    char *value = flag->kind == FLAG_SWITCH ? must(strdup("")) : value_read(flag, text, message, size);
    if (value == NULL) {
        return false;
    }
    assert(args->given_count < ARGS_FLAGS_MAX); /* each at most once, and no table is longer */
    args->given[args->given_count].flag = flag;
    args->given[args->given_count++].value = value;
    return true;
}

bool args_parse(struct args *args, const struct flag *flags, bool dash_words, int argc, const char *const *argv,
                char *message, size_t size)
{
    memset(args, 0, sizeof *args);
    bool words_only = false;
    for (int i = 0; i < argc;) {
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = true;
            i++;
        } else if (!words_only && is_flag(argv[i]) && (argv[i][1] == '-' || !dash_words)) {
            int taken;
            if (!take_flag(args, flags, argc - i, argv + i, &taken, message, size)) {
                return false;
            }
            i += taken;
        } else if (args->word_count == ARGS_WORDS_MAX) {
            snprintf(message, size, "too many words, from \"%s\" on: --help shows what is taken", argv[i]);
            return false;
        } else {
            args->words[args->word_count++] = argv[i++];
        }
    }
    return true;
}

void args_close(struct args *args)
{
    for (size_t i = 0; i < args->given_count; i++) {
        free(args->given[i].value);
    }
    memset(args, 0, sizeof *args);
}

const char *args_get(const struct args *args, const char *name)
{
    for (size_t i = 0; i < args->given_count; i++) {
        if (strcmp(args->given[i].flag->name, name) == 0) {
            return args->given[i].value;
        }
    }
    return NULL;
}

bool args_has(const struct args *args, const char *name)
{
    return args_get(args, name) != NULL;
}
