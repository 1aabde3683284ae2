#include "proto/mac_list.h"

#include <string.h>

bool mac_prefix_read(struct slice text, struct mac_prefix *prefix)
{
    struct mac whole;
    struct mac_prefix read = { .count = 0 };
    if (mac_parse(text, &whole)) {
        memcpy(read.bytes, whole.bytes, sizeof read.bytes);
        read.count = sizeof read.bytes;
        *prefix = read;
        return true;
    }
    char separator = text.len > 2 && (text.at[2] == ':' || text.at[2] == '-') ? text.at[2] : '\0';
    while (text.len > 0) {
        bool is_later = read.count > 0 && separator != '\0';
        size_t n = is_later ? 3 : 2;
        if (read.count == sizeof read.bytes - 1 || text.len < n || (is_later && text.at[0] != separator) ||
            !hex_decode((struct slice){ text.at + n - 2, 2 }, &read.bytes[read.count], 1)) {
            return false;
        }
        read.count++;
        text = (struct slice){ text.at + n, text.len - n };
    }
    if (read.count == 0) {
        return false;
    }
    *prefix = read;
    return true;
}

bool mac_list_has(const struct mac_list *list, const struct mac *mac)
{
    for (size_t i = 0; i < list->count; i++) {
        if (memcmp(list->prefixes[i].bytes, mac->bytes, list->prefixes[i].count) == 0) {
            return true;
        }
    }
    return false;
}
