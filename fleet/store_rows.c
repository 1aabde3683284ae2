/* Words, not numbers, stand for states and reasons, so that a list in the code may be reordered. Each put_ and its get_
 * stand side by side, in the order of the columns. */
#include "fleet/store_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRANSFER_COLUMNS 10

/* --- values ---------------------------------------------------------------------------------------------------------
 */

sqlite3_int64 row_mac_number(const struct mac *mac)
{
    sqlite3_int64 number = 0;
    for (size_t i = 0; i < sizeof mac->bytes; i++) {
        number = number << 8 | mac->bytes[i];
    }
    return number;
}

static struct mac mac_of_number(sqlite3_int64 number)
{
    struct mac mac;
    for (size_t i = sizeof mac.bytes; i > 0; i--, number >>= 8) {
        mac.bytes[i - 1] = (uint8_t)number;
    }
    return mac;
}

void row_put_number(struct row_cursor *cursor, sqlite3_int64 number)
{
    (void)sqlite3_bind_int64(cursor->statement, ++cursor->next, number);
}

void row_put_text(struct row_cursor *cursor, const char *text)
{
    (void)sqlite3_bind_text(cursor->statement, ++cursor->next, text, -1, SQLITE_STATIC);
}

static void put_bytes(struct row_cursor *cursor, const void *bytes, size_t n)
{
    (void)sqlite3_bind_blob(cursor->statement, ++cursor->next, n > 0 ? bytes : "", (int)n, SQLITE_STATIC);
}

sqlite3_int64 row_get_number(struct row_cursor *cursor)
{
    return sqlite3_column_int64(cursor->statement, cursor->next++);
}

void row_get_text(struct row_cursor *cursor, char *to, size_t size)
{
    const unsigned char *text = sqlite3_column_text(cursor->statement, cursor->next++);
    snprintf(to, size, "%s", text != NULL ? (const char *)text : "");
}

/* Returns how many there were; fewer than n leave the rest as it is. */
static size_t get_bytes(struct row_cursor *cursor, void *to, size_t n)
{
    const void *bytes = sqlite3_column_blob(cursor->statement, cursor->next);
    size_t there = (size_t)sqlite3_column_bytes(cursor->statement, cursor->next++);
    memcpy(to, bytes != NULL ? bytes : "", there < n ? there : n);
    return there;
}

/* The number of a word in a list; 0 where it is none (any more). */
static uint8_t get_word(struct row_cursor *cursor, const char *(*word_of)(unsigned), unsigned count)
{
    const char *text = (const char *)sqlite3_column_text(cursor->statement, cursor->next++);
    for (unsigned i = 0; text != NULL && i < count; i++) {
        if (strcmp(text, word_of(i)) == 0) {
            return (uint8_t)i;
        }
    }
    return 0;
}

static const char *word_of_reason(unsigned i)
{
    return reason_word((enum reason)i);
}

static const char *word_of_outcome(unsigned i)
{
    return outcome_word((enum outcome)i);
}

static const char *word_of_client(unsigned i)
{
    return device_client_text((enum device_client)i);
}

static const char *word_of_state(unsigned i)
{
    return rollout_state_word((enum rollout_state)i);
}

static const char *word_of_member(unsigned i)
{
    return rollout_device_word((enum rollout_device_state)i);
}

static const char *word_of_cause(unsigned i)
{
    return rollout_cause_word((enum rollout_cause)i);
}

static const char *word_of_mark(unsigned i)
{
    return rollout_mark_word((enum rollout_mark)i);
}

/* --- rows, in the order of their columns -----------------------------------------------------------------------------
 */

/* Byte by byte, so that neither a compiler's gaps nor a machine's order of bytes are in the file. */
static uint8_t *pack_bytes(uint8_t *to, const uint8_t *bytes, size_t n)
{
    memcpy(to, bytes, n);
    return to + n;
}

static uint8_t *pack_number(uint8_t *to, uint32_t number)
{
    for (unsigned k = 0; k < 4; k++) {
        to[k] = (uint8_t)(number >> (24 - 8 * k));
    }
    return to + 4;
}

static uint32_t unpack_number(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static size_t pack_images(const struct never_again_entry *entry, uint8_t images[ROW_IMAGES_BYTES])
{
    uint8_t *to = images;
    for (size_t i = 0; i < entry->count; i++) {
        const struct never_again_image *image = &entry->images[i];
        to = pack_bytes(to, image->md5, 16);
        *to++ = image->failures;
        *to++ = image->rolled_back;
        to = pack_number(to, image->unix_s);
    }
    return (size_t)(to - images);
}

static void unpack_images(const uint8_t *from, size_t bytes, struct never_again_entry *entry)
{
    for (; bytes >= ROW_IMAGE_BYTES && entry->count < NEVER_AGAIN_OF_DEVICE; bytes -= ROW_IMAGE_BYTES) {
        struct never_again_image *image = &entry->images[entry->count++];
        memcpy(image->md5, from, 16);
        image->failures = from[16];
        image->rolled_back = from[17] != 0;
        image->unix_s = unpack_number(from + 18);
        from += ROW_IMAGE_BYTES;
    }
}

/* Of none, nothing but that: most devices were never sent a file system. */
static void put_transfer(struct row_cursor *to, const struct store_transfer *row)
{
    row_put_number(to, row->unix_s);
    if (row->unix_s == 0) {
        for (int i = 1; i < TRANSFER_COLUMNS; i++) {
            (void)sqlite3_bind_null(to->statement, ++to->next); /* the statement still has those of the row before */
        }
        return;
    }
    put_bytes(to, row->md5, sizeof row->md5);
    put_bytes(to, row->before, sizeof row->before);
    row_put_number(to, row->bytes);
    row_put_number(to, row->of);
    row_put_number(to, row->ms);
    row_put_text(to, row->version);
    row_put_text(to, word_of_outcome(row->outcome));
    row_put_number(to, row->failures);
    row_put_number(to, row->served);
}

static void get_transfer(struct row_cursor *from, struct store_transfer *row)
{
    row->unix_s = (uint32_t)row_get_number(from);
    if (row->unix_s == 0) {
        from->next += TRANSFER_COLUMNS - 1;
        return;
    }
    (void)get_bytes(from, row->md5, sizeof row->md5);
    (void)get_bytes(from, row->before, sizeof row->before);
    row->bytes = (uint32_t)row_get_number(from);
    row->of = (uint32_t)row_get_number(from);
    row->ms = (uint32_t)row_get_number(from);
    row_get_text(from, row->version, sizeof row->version);
    row->outcome = get_word(from, word_of_outcome, OUTCOME_COUNT);
    row->failures = (uint8_t)row_get_number(from);
    row->served = (uint16_t)row_get_number(from);
}

void row_put_device(struct row_cursor *to, const struct store_device *row, uint8_t images[ROW_IMAGES_BYTES])
{
    row_put_number(to, row_mac_number(&row->mac));
    row_put_text(to, word_of_client(row->client));
    row_put_number(to, row->chip);
    row_put_number(to, row->flash_mode);
    row_put_text(to, word_of_reason(row->reason));
    put_bytes(to, row->md5, row->has_md5 ? sizeof row->md5 : 0);
    row_put_number(to, row->reason_fs);
    row_put_number(to, row->came_back);
    row_put_number(to, row->via_proxy);
    put_bytes(to, row->address, sizeof row->address);
    row_put_number(to, row->first_seen_s);
    row_put_number(to, row->seen_s);
    row_put_number(to, row->flash_bytes);
    row_put_number(to, row->free_bytes);
    row_put_number(to, row->sketch_bytes);
    row_put_text(to, row->type);
    row_put_text(to, row->version);
    row_put_text(to, row->fs_version);
    row_put_text(to, row->sdk);
    put_transfer(to, &row->transfer);
    put_transfer(to, &row->fs_transfer);
    put_bytes(to, images, pack_images(&row->never_again, images));
}

void row_get_device(struct row_cursor *from, struct store_device *row)
{
    uint8_t images[ROW_IMAGES_BYTES];
    row->mac = mac_of_number(row_get_number(from));
    row->client = get_word(from, word_of_client, CLIENT_ESP32 + 1);
    row->chip = (uint16_t)row_get_number(from);
    row->flash_mode = (uint8_t)row_get_number(from);
    row->reason = get_word(from, word_of_reason, REASON_COUNT);
    row->has_md5 = get_bytes(from, row->md5, sizeof row->md5) == sizeof row->md5;
    row->reason_fs = row_get_number(from) != 0;
    row->came_back = row_get_number(from) != 0;
    row->via_proxy = row_get_number(from) != 0;
    (void)get_bytes(from, row->address, sizeof row->address);
    row->first_seen_s = (uint32_t)row_get_number(from);
    row->seen_s = (uint32_t)row_get_number(from);
    row->flash_bytes = (uint32_t)row_get_number(from);
    row->free_bytes = (uint32_t)row_get_number(from);
    row->sketch_bytes = (uint32_t)row_get_number(from);
    row_get_text(from, row->type, sizeof row->type);
    row_get_text(from, row->version, sizeof row->version);
    row_get_text(from, row->fs_version, sizeof row->fs_version);
    row_get_text(from, row->sdk, sizeof row->sdk);
    get_transfer(from, &row->transfer);
    get_transfer(from, &row->fs_transfer);
    size_t bytes = get_bytes(from, images, sizeof images);
    row->never_again.mac = row->mac;
    unpack_images(images, bytes < sizeof images ? bytes : sizeof images, &row->never_again);
}

/* `first`: what block 0 is called in the file. */
void row_put_seen(struct row_cursor *to, const struct store_seen *row, sqlite3_int64 first,
                  uint8_t packed[ROW_SEEN_BLOCK_BYTES])
{
    uint8_t *at = packed;
    for (size_t i = 0; i < row->count; i++) {
        at = pack_bytes(at, row->devices[i].mac.bytes, sizeof row->devices[i].mac.bytes);
        at = pack_number(at, row->devices[i].unix_s);
    }
    row_put_number(to, first + row->block);
    put_bytes(to, packed, (size_t)(at - packed));
}

void row_get_seen(struct row_cursor *from, struct store_seen *row)
{
    uint8_t packed[ROW_SEEN_BLOCK_BYTES];
    (void)row_get_number(from); /* an earlier process's: it says nothing now */
    size_t bytes = get_bytes(from, packed, sizeof packed);
    size_t count = bytes < sizeof packed ? bytes / ROW_SEEN_BYTES : STORE_SEEN_MAX;
    for (const uint8_t *at = packed; row->count < count; at += ROW_SEEN_BYTES) {
        struct store_seen_device *device = &row->devices[row->count++];
        memcpy(device->mac.bytes, at, sizeof device->mac.bytes);
        device->unix_s = unpack_number(at + sizeof device->mac.bytes);
    }
}

void row_put_policy(struct row_cursor *to, const struct store_policy *row, char groups[STORE_GROUPS_TEXT])
{
    size_t used = 0;
    groups[0] = '\0';
    for (size_t i = 0; i < row->group_count; i++) {
        used += (size_t)snprintf(groups + used, STORE_GROUPS_TEXT - used, "%s%s", i > 0 ? "\n" : "", row->groups[i]);
    }
    row_put_number(to, row_mac_number(&row->mac));
    row_put_number(to, row->blocked);
    row_put_number(to, row->approved);
    row_put_text(to, row->type);
    row_put_text(to, row->label);
    row_put_text(to, row->pin);
    row_put_text(to, groups);
    row_put_text(to, row->note);
    row_put_number(to, row->unix_s);
}

void row_get_policy(struct row_cursor *from, struct store_policy *row)
{
    char groups[STORE_GROUPS_TEXT];
    row->mac = mac_of_number(row_get_number(from));
    row->blocked = row_get_number(from) != 0;
    row->approved = row_get_number(from) != 0;
    row_get_text(from, row->type, sizeof row->type);
    row_get_text(from, row->label, sizeof row->label);
    row_get_text(from, row->pin, sizeof row->pin);
    row_get_text(from, groups, sizeof groups);
    for (char *rest = groups, *name; row->group_count < STORE_GROUPS_MAX && (name = strsep(&rest, "\n")) != NULL;) {
        if (name[0] != '\0') {
            snprintf(row->groups[row->group_count++], sizeof row->groups[0], "%s", name);
        }
    }
    row_get_text(from, row->note, sizeof row->note);
    row->unix_s = (uint32_t)row_get_number(from);
}

/* The numbers of a rollout that stand side by side: X(field) in the order of the columns. */
/* clang-format off */
#define ROLLOUT_ORDER_NUMBERS(X) \
    X(order.percent) X(order.canary) X(order.in_flight) X(order.max_failures) X(order.site_in_flight) \
    X(order.window_s) X(order.timeout_ms) X(order.reboot_ms) X(order.broker_ms) X(created_s) X(ended_s) X(since_s) \
    X(distrusted) X(gathered) X(told_type) X(broadcasts) X(window.size) X(window.stalled_once) X(members)
#define ROLLOUT_COUNT_NUMBERS(X) \
    X(canaries) X(canaries_confirmed) X(failures) X(forgiven) X(lost) X(lost_forgiven) X(anonymous) \
    X(commands) X(acknowledged) X(commands_failed) X(bytes) X(transfer_ms) X(reboot_ms) X(word_only) X(strangers)
/* clang-format on */

/* "queued 12 failed 3" */
static void print_counts(const struct rollout *row, struct row_counts *texts)
{
    size_t used = 0, size = sizeof texts->states;
    char *counts = texts->states;
    counts[0] = '\0';
    for (unsigned i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        if (row->devices[i] > 0) {
            used += (size_t)snprintf(counts + used, size - used, "%s%s %zu", used > 0 ? " " : "", word_of_member(i),
                                     row->devices[i]);
        }
    }
}

static void parse_counts(char *counts, struct rollout *row)
{
    enum rollout_device_state state;
    for (char *word; (word = strsep(&counts, " ")) != NULL;) {
        const char *count = strsep(&counts, " ");
        if (count != NULL && rollout_device_from_word(slice_of(word), &state)) {
            row->devices[state] = strtoull(count, NULL, 10);
        }
    }
}

/* A line each: "3 runs it already". */
static void print_reasons(const struct rollout *row, struct row_counts *texts)
{
    size_t used = 0;
    texts->reasons[0] = '\0';
    for (size_t i = 0; i < ROLLOUT_REASONS_MAX; i++) {
        const struct rollout_reason *reason = &row->skipped_for.all[i];
        if (reason->count > 0) {
            used += (size_t)snprintf(texts->reasons + used, sizeof texts->reasons - used, "%zu %s\n", reason->count,
                                     reason->word);
        }
    }
}

static void parse_reasons(char *text, struct rollout *row)
{
    size_t i = 0;
    for (char *line; i < ROLLOUT_REASONS_MAX && (line = strsep(&text, "\n")) != NULL;) {
        const char *word = strchr(line, ' ');
        if (word != NULL && word[1] != '\0') {
            struct rollout_reason *reason = &row->skipped_for.all[i++];
            reason->count = strtoull(line, NULL, 10);
            snprintf(reason->word, sizeof reason->word, "%s", word + 1);
        }
    }
}

void row_put_rollout(struct row_cursor *to, const struct rollout *row, struct row_counts *counts)
{
    const struct rollout_target *target = &row->order.target;
    print_counts(row, counts);
    print_reasons(row, counts);
    row_put_text(to, row->id);
    row_put_text(to, word_of_state(row->state));
    row_put_text(to, word_of_state(row->before));
    row_put_text(to, row->why);
    row_put_text(to, row->supersedes);
    row_put_text(to, target->file);
    row_put_text(to, target->type);
    row_put_text(to, target->version);
    row_put_number(to, target->fs);
    row_put_number(to, (sqlite3_int64)target->bytes);
    put_bytes(to, target->md5, target->image_count * sizeof target->md5[0]);
    put_bytes(to, target->run_md5, target->run_md5_count * sizeof target->run_md5[0]);
    row_put_text(to, target->passed_over);
    row_put_number(to, row->order.named);
    put_bytes(to, row->order.devices, row->order.device_count * sizeof(struct mac));
    row_put_text(to, row->order.group);
#define X(field) row_put_number(to, (sqlite3_int64)row->field);
    ROLLOUT_ORDER_NUMBERS(X)
    row_put_text(to, counts->states);
    ROLLOUT_COUNT_NUMBERS(X)
#undef X
    row_put_text(to, counts->reasons);
    row_put_text(to, rollout_cause_word(row->cause));
    row_put_text(to, row->superseded_by);
}

/* `devices` takes the named ones: room for ROLLOUT_NAMED_MAX. */
void row_get_rollout(struct row_cursor *from, struct rollout *row, struct mac *devices)
{
    struct rollout_target *target = &row->order.target;
    struct row_counts counts;
    (void)row_get_number(from); /* its place */
    row_get_text(from, row->id, sizeof row->id);
    row->state = (enum rollout_state)get_word(from, word_of_state, ROLLOUT_STATES);
    row->before = (enum rollout_state)get_word(from, word_of_state, ROLLOUT_STATES);
    row_get_text(from, row->why, sizeof row->why);
    row_get_text(from, row->supersedes, sizeof row->supersedes);
    row_get_text(from, target->file, sizeof target->file);
    row_get_text(from, target->type, sizeof target->type);
    row_get_text(from, target->version, sizeof target->version);
    target->fs = row_get_number(from) != 0;
    target->bytes = (uint64_t)row_get_number(from);
    size_t bytes = get_bytes(from, target->md5, sizeof target->md5);
    target->image_count = bytes < sizeof target->md5 ? bytes / 16 : sizeof target->md5 / 16;
    bytes = get_bytes(from, target->run_md5, sizeof target->run_md5);
    target->run_md5_count = bytes < sizeof target->run_md5 ? bytes / 16 : sizeof target->run_md5 / 16;
    row_get_text(from, target->passed_over, sizeof target->passed_over);
    row->order.named = row_get_number(from) != 0;
    bytes = get_bytes(from, devices, ROLLOUT_NAMED_MAX * sizeof devices[0]);
    row->order.device_count = bytes / sizeof devices[0];
    row->order.device_count = row->order.device_count < ROLLOUT_NAMED_MAX ? row->order.device_count : ROLLOUT_NAMED_MAX;
    row->order.devices = devices;
    row_get_text(from, row->order.group, sizeof row->order.group);
    sqlite3_int64 number;
#define X(field)                                                                                                       \
    number = row_get_number(from);                                                                                     \
    row->field = (__typeof__(row->field))number;
    ROLLOUT_ORDER_NUMBERS(X)
    row_get_text(from, counts.states, sizeof counts.states);
    parse_counts(counts.states, row);
    ROLLOUT_COUNT_NUMBERS(X)
#undef X
    row_get_text(from, counts.reasons, sizeof counts.reasons);
    parse_reasons(counts.reasons, row);
    row->cause = (enum rollout_cause)get_word(from, word_of_cause, ROLLOUT_CAUSES);
    row_get_text(from, row->superseded_by, sizeof row->superseded_by);
    row->window.fixed = row->order.in_flight;
}

void row_put_member(struct row_cursor *to, const struct store_member *row)
{
    row_put_text(to, row->rollout);
    row_put_number(to, row_mac_number(&row->mac));
    row_put_text(to, word_of_member(row->state));
    row_put_number(to, row->attempts);
    row_put_number(to, row->canary);
    row_put_number(to, row->armed);
    row_put_number(to, row->unix_s);
    row_put_text(to, row->why);
    row_put_text(to, word_of_mark(row->mark));
}

void row_get_member(struct row_cursor *from, struct store_member *row)
{
    row_get_text(from, row->rollout, sizeof row->rollout);
    row->mac = mac_of_number(row_get_number(from));
    row->state = get_word(from, word_of_member, ROLLOUT_DEVICE_STATES);
    row->attempts = (uint8_t)row_get_number(from);
    row->canary = row_get_number(from) != 0;
    row->armed = (uint32_t)row_get_number(from);
    row->unix_s = (uint32_t)row_get_number(from);
    row_get_text(from, row->why, sizeof row->why);
    row->mark = get_word(from, word_of_mark, ROLLOUT_MARKS);
}
