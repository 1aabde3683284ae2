/* The kinds of values: reading one, printing it, and what it must look like. */
#include "server/config_parts.h"

#include "proto/mac_list.h"
#include "server/client_address.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool config_is_secret(const struct config_key *key)
{
    return key->kind == KIND_SECRET || key->kind == KIND_SECRET_URL;
}

bool config_is_text(const struct config_key *key)
{
    return key->kind == KIND_TEXT || config_is_secret(key);
}

bool config_is_list(const struct config_key *key)
{
    return key->kind == KIND_LISTEN || key->kind == KIND_NETWORKS || key->kind == KIND_MACS || key->kind == KIND_FILES;
}

uint64_t *config_number(const struct config *config, const struct config_key *key)
{
    return (uint64_t *)((uintptr_t)config + key->offset);
}

char *config_text(const struct config *config, const struct config_key *key)
{
    return (char *)((uintptr_t)config + key->offset);
}

struct config_list *config_list(const struct config *config, const struct config_key *key)
{
    return (struct config_list *)((uintptr_t)config + key->offset);
}

bool config_is_address(struct slice value)
{
    size_t port_at = value.len;
    uint64_t port;
    while (port_at > 0 && value.at[port_at - 1] != ':') {
        port_at--;
    }
    return port_at > 1 && number_parse((struct slice){ value.at + port_at, value.len - port_at }, 65535, &port);
}

/* The words of a choice stand in `argument`, separated by `|`: the number is the word's place. */
static bool find_choice(const struct config_key *key, struct slice value, uint64_t *number)
{
    const char *word = key->argument;
    for (uint64_t i = 0;; i++) {
        size_t n = strcspn(word, "|");
        if (value.len == n && memcmp(value.at, word, n) == 0) {
            *number = i;
            return true;
        }
        if (word[n] == '\0') {
            return false;
        }
        word += n + 1;
    }
}

static void print_choice(const struct config_key *key, uint64_t number, char *to, size_t size)
{
    const char *word = key->argument;
    while (number-- > 0) {
        word += strcspn(word, "|") + 1;
    }
    snprintf(to, size, "%.*s", (int)strcspn(word, "|"), word);
}

static bool set_number(struct config *config, const struct config_key *key, struct slice value)
{
    uint64_t number = 0;
    enum log_level level;
    enum log_format format;
    bool good = false;
    switch (key->kind) {
    case KIND_DURATION:
        good = duration_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_SIZE:
        good = size_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_COUNT:
        good = number_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_PERCENT:
        value.len -= slice_ends_with(value, "%");
        good = number_parse(value, key->max, &number) && number >= key->min;
        break;
    case KIND_BOOL:
        number = slice_is(value, "yes");
        good = number == 1 || slice_is(value, "no");
        break;
    case KIND_CHOICE:
        good = find_choice(key, value, &number);
        break;
    case KIND_LEVEL:
        good = log_level_parse(value, &level);
        number = good ? level : 0;
        break;
    case KIND_FORMAT:
        good = log_format_parse(value, &format);
        number = good ? format : 0;
        break;
    default:
        break;
    }
    if (good) {
        *config_number(config, key) = number;
    }
    return good;
}

void config_number_print(const struct config_key *key, uint64_t number, char *to, size_t size)
{
    switch (key->kind) {
    case KIND_DURATION:
        duration_print(number, to, size);
        break;
    case KIND_SIZE:
        size_print(number, to, size);
        break;
    case KIND_PERCENT:
        snprintf(to, size, "%" PRIu64 "%%", number);
        break;
    case KIND_BOOL:
        snprintf(to, size, "%s", number ? "yes" : "no");
        break;
    case KIND_CHOICE:
        print_choice(key, number, to, size);
        break;
    case KIND_LEVEL:
        snprintf(to, size, "%s", log_level_name((enum log_level)number));
        break;
    case KIND_FORMAT:
        snprintf(to, size, "%s", log_format_name((enum log_format)number));
        break;
    default:
        snprintf(to, size, "%" PRIu64, number);
    }
}

void config_describe(const struct config_key *key, char *to, size_t size)
{
    char least[24], most[24];
    config_number_print(key, key->min, least, sizeof least);
    config_number_print(key, key->max, most, sizeof most);
    switch (key->kind) {
    case KIND_DURATION:
        snprintf(to, size, "give a time from %s to %s, such as 500ms, 10s or 5m", least, most);
        break;
    case KIND_SIZE:
        snprintf(to, size, "give a size from %s to %s, such as 64M", least, most);
        break;
    case KIND_COUNT:
        snprintf(to, size, "give a number from %s to %s", least, most);
        break;
    case KIND_PERCENT:
        snprintf(to, size, "give a share from %s to %s, such as 20%%", least, most);
        break;
    case KIND_LISTEN:
        snprintf(to, size, "give an address and a port, such as 0.0.0.0:8080 or [::]:8080; at most %s of them", most);
        break;
    case KIND_MACS:
        snprintf(to, size,
                 "give a MAC or how MACs begin, in whole bytes, such as 5c:cf:7f:01:02:03 or 5c:cf:7f; at most %s of "
                 "them",
                 most);
        break;
    case KIND_NETWORKS:
        snprintf(to, size,
                 "give an address or network, such as 10.0.0.1, 10.0.0.0/8 or fd00::/8, with zeros behind the "
                 "prefix, and not all of IPv4 or IPv6; at most %s of them",
                 most);
        break;
    case KIND_FILES:
        snprintf(to, size, "give a file's name of at most 127 bytes; at most %s of them", most);
        break;
    case KIND_TEXT:
        snprintf(to, size, "give a text of 1 to %d bytes, in UTF-8 and without control characters",
                 CONFIG_TEXT_MAX - 1);
        break;
    case KIND_SECRET:
    case KIND_SECRET_URL:
        snprintf(to, size, "give a text of 1 to %d bytes", CONFIG_TEXT_MAX - 1);
        break;
    default:
        snprintf(to, size, "give %s",
                 key->kind == KIND_BOOL     ? "yes or no"
                 : key->kind == KIND_CHOICE ? key->argument
                                            : key->help);
    }
}

static bool fits_list(const struct config_key *key, struct slice value)
{
    struct client_network network;
    struct mac_prefix prefix;
    return key->kind == KIND_LISTEN     ? config_is_address(value) || slice_is(value, "none")
           : key->kind == KIND_NETWORKS ? client_network_read(value, &network)
           : key->kind == KIND_MACS     ? mac_prefix_read(value, &prefix)
                                        : value.len > 0;
}

static bool add_to_list(struct config_list *list, const struct config_key *key, struct slice value)
{
    return list->count < key->max && fits_list(key, value) &&
           slice_copy(value, list->texts[list->count++], sizeof list->texts[0]);
}

/* Tabs may stand between words. Secrets may be anything: they are never shown. */
static bool is_showable(const struct config_key *key, struct slice value)
{
    char copy[CONFIG_TEXT_MAX];
    if (config_is_secret(key)) {
        return true;
    }
    bool fits = slice_copy(value, copy, sizeof copy);
    for (char *tab = copy; fits && (tab = strchr(tab, '\t')) != NULL;) {
        *tab = ' ';
    }
    return fits && text_is_clean_utf8((struct slice){ copy, value.len });
}

bool config_set(struct config *config, const struct config_key *key, struct slice value)
{
    if (!is_showable(key, value)) {
        return false;
    }
    if (config_is_list(key)) {
        return add_to_list(config_list(config, key), key, value);
    }
    if (config_is_text(key)) {
        return value.len > 0 && slice_copy(value, config_text(config, key), CONFIG_TEXT_MAX);
    }
    return set_number(config, key, value);
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) { /* behind a text lie the bytes of weaker sources */
        same = strcmp(a->texts[i], b->texts[i]) == 0;
    }
    return same;
}

bool config_same(const struct config *a, const struct config *b, const struct config_key *key)
{
    if (config_is_list(key)) {
        return same_list(config_list(a, key), config_list(b, key));
    }
    return config_is_text(key) ? strcmp(config_text(a, key), config_text(b, key)) == 0
                               : *config_number(a, key) == *config_number(b, key);
}

void config_copy(struct config *to, const struct config *from, const struct config_key *key)
{
    if (config_is_list(key)) {
        *config_list(to, key) = *config_list(from, key);
    } else if (config_is_text(key)) {
        memcpy(config_text(to, key), config_text(from, key), CONFIG_TEXT_MAX);
    } else {
        *config_number(to, key) = *config_number(from, key);
    }
}
