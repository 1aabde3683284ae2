/* One reader for each member of the body, in a table. */
#include "server/device_word.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define GROUP_TEXT_MAX WORD_TEXT_MAX
#define NOTE_TEXT_MAX  (sizeof((struct policy_entry *)0)->note - 1)

static bool refuse_member(struct device_word *word, const char *member, const char *remedy)
{
    admin_refuse(word->call->answer, 400, "bad-request", remedy, "member \"%s\" cannot be read", member);
    return false;
}

static void say(struct device_word *word, const char *what, const char *first, const char *second)
{
    assert(word->said_count < DEVICE_WORD_SAID_MAX);
    word->said[word->said_count].word = what;
    snprintf(word->said[word->said_count].text, sizeof word->said[0].text, "%s%s%s", first,
             first[0] != '\0' && second[0] != '\0' ? " " : "", second);
    word->said_count++;
}

static word_id take_word(struct device_word *word, const char *text)
{
    word_id id = words_take(word->call->api->fleet->words, slice_of(text));
    assert(word->taken_count < sizeof word->taken / sizeof word->taken[0]);
    word->taken[word->taken_count++] = id;
    return id;
}

/* A version, a label, a type: as file names have them. */
static bool is_name(const char *text)
{
    size_t n = text != NULL ? strlen(text) : 0;
    return n > 0 && n <= WORD_TEXT_MAX && strpbrk(text, " /") == NULL && text_is_clean_utf8(slice_of(text));
}

static bool read_pin(struct device_word *word, const json_t *value)
{
    const char *pin = json_string_value(value);
    if (!json_is_null(value) && !is_name(pin)) {
        return refuse_member(word, "pin", "give a version or label of 1 to 64 bytes, or null");
    }
    word->entry.pin = pin != NULL ? take_word(word, pin) : 0;
    say(word, pin != NULL ? "pinned" : "unpinned", pin != NULL ? pin : "", "");
    return true;
}

static bool read_assign(struct device_word *word, const json_t *value)
{
    const json_t *type = json_object_get(value, "type"), *label = json_object_get(value, "label");
    const char *type_text = type != NULL ? json_string_value(type) : "";
    const char *label_text = label != NULL ? json_string_value(label) : "";
    size_t known = (type != NULL) + (size_t)(label != NULL);
    if (json_is_null(value)) {
        word->entry.type = word->entry.label = 0;
        say(word, "unassigned", "", "");
        return true;
    }
    if (!json_is_object(value) || json_object_size(value) != known || type_text == NULL || label_text == NULL ||
        (type_text[0] == '\0' && label_text[0] == '\0') || (type_text[0] != '\0' && !is_name(type_text)) ||
        (label_text[0] != '\0' && !is_name(label_text))) {
        return refuse_member(word, "assign",
                             "give {\"type\":\"door\",\"label\":\"DOOR-7\"}, one of them may be left out; or null");
    }
    word->entry.type = take_word(word, type_text);
    word->entry.label = take_word(word, label_text);
    say(word, "assigned", type_text, label_text);
    return true;
}

static bool read_blocked(struct device_word *word, const json_t *value)
{
    if (!json_is_boolean(value)) {
        return refuse_member(word, "blocked", "give true or false");
    }
    word->entry.blocked = json_is_true(value);
    word->stops = word->entry.blocked;
    say(word, word->entry.blocked ? "blocked" : "unblocked", "", "");
    return true;
}

static bool read_approved(struct device_word *word, const json_t *value)
{
    if (!json_is_boolean(value)) {
        return refuse_member(word, "approved", "give true or false");
    }
    word->entry.approved = json_is_true(value);
    say(word, word->entry.approved ? "approved" : "unapproved", "", "");
    return true;
}

static bool check_groups(struct device_word *word, const char *member, const json_t *list)
{
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return refuse_member(word, member, "give a list of groups, such as [\"kitchen\"]");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!slice_is_name(slice_of(name), GROUP_TEXT_MAX)) {
            admin_refuse(word->call->answer, 400, "bad-group",
                         "a group's name has 1 to 64 letters, digits, dots, underscores and hyphens",
                         "\"%s\" cannot be a group's name", name != NULL ? admin_show(name).text : "");
            return false;
        }
    }
    return true;
}

static size_t place_of_group(const struct device_word *word, const char *name)
{
    size_t i = 0;
    while (i < word->entry.group_count &&
           strcmp(words_text(word->call->api->fleet->words, word->entry.groups[i]), name) != 0) {
        i++;
    }
    return i;
}

/* "kitchen, hall": as far as there is room. */
static void say_groups(struct device_word *word, const char *what, const json_t *list)
{
    char text[WORD_TEXT_MAX * 2] = "";
    for (size_t i = 0, used = 0; i < json_array_size(list) && used < sizeof text; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? ", " : "",
                                 json_string_value(json_array_get(list, i)));
    }
    say(word, what, text, "");
}

static bool read_groups_remove(struct device_word *word, const json_t *list)
{
    if (!check_groups(word, "groups_remove", list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t place = place_of_group(word, json_string_value(json_array_get(list, i)));
        if (place < word->entry.group_count) {
            word->entry.group_count--;
            memmove(&word->entry.groups[place], &word->entry.groups[place + 1],
                    (word->entry.group_count - place) * sizeof word->entry.groups[0]);
        }
    }
    say_groups(word, "ungrouped", list);
    return true;
}

static bool read_groups_add(struct device_word *word, const json_t *list)
{
    if (!check_groups(word, "groups_add", list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (place_of_group(word, name) < word->entry.group_count) {
            continue;
        }
        if (word->entry.group_count == POLICY_GROUPS_MAX) {
            admin_refuse(word->call->answer, 409, "limit", "take it out of one first (groups_remove)",
                         "a device belongs to at most %d groups", POLICY_GROUPS_MAX);
            return false;
        }
        word->entry.groups[word->entry.group_count++] = take_word(word, name);
    }
    say_groups(word, "grouped", list);
    return true;
}

static bool read_note(struct device_word *word, const json_t *value)
{
    const char *note = json_string_value(value);
    if (note == NULL || strlen(note) > NOTE_TEXT_MAX || !text_is_clean_utf8(slice_of(note))) {
        return refuse_member(word, "note", "give a text of at most 64 bytes");
    }
    snprintf(word->entry.note, sizeof word->entry.note, "%s", note);
    return true;
}

/* In the order in which they go: who leaves a group makes room for another. */
static const struct {
    const char *member;
    bool (*read)(struct device_word *word, const json_t *value);
} readers[] = {
    { "pin", read_pin },
    { "assign", read_assign },
    { "blocked", read_blocked },
    { "approved", read_approved },
    { "groups_remove", read_groups_remove },
    { "groups_add", read_groups_add },
    { "note", read_note },
};

#define READERS (sizeof readers / sizeof readers[0])
static_assert(READERS <= DEVICE_WORD_MEMBERS_MAX, "all have room");

size_t device_word_members(const char *members[DEVICE_WORD_MEMBERS_MAX])
{
    for (size_t i = 0; i < READERS; i++) {
        members[i] = readers[i].member;
    }
    return READERS;
}

bool device_word_read(struct device_word *word, const json_t *body)
{
    for (size_t i = 0; i < READERS; i++) {
        const json_t *value = json_object_get(body, readers[i].member);
        if (value != NULL && !readers[i].read(word, value)) {
            return false;
        }
        word->starts = word->starts || (value != NULL && readers[i].read != read_note &&
                                        (readers[i].read != read_blocked || !word->entry.blocked));
    }
    if (json_object_size(body) == 0) {
        admin_refuse(word->call->answer, 400, "bad-request", "docs/openapi.json lists what this address takes",
                     "the body says nothing");
        return false;
    }
    return true;
}
