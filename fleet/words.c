/* Slots in an array, found by hash; a free slot's number is used again. uthash's own hash of the text is known to
 * everyone, so it is salted: whoever chooses texts must not choose buckets. */
#include "fleet/words.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>

struct word {
    uint32_t refs;
    word_id id;
    char text[WORD_TEXT_MAX + 1];
    UT_hash_handle hh;
};

struct words {
    struct word *by_text;
    struct word **slots; /* by id; [0] stays empty */
    word_id *free_ids;
    size_t slot_count, slot_room, free_count, free_room;
    uint32_t salt;
};

struct words *words_new(void)
{
    struct words *words = calloc(1, sizeof *words);
    assert(words != NULL);
    ssize_t drawn = getrandom(&words->salt, sizeof words->salt, 0);
    assert(drawn == (ssize_t)sizeof words->salt); /* so few bytes are never cut short: getrandom(2) */
    (void)drawn;
    words->slot_count = 1;
    return words;
}

void words_free(struct words *words)
{
    if (words == NULL) {
        return;
    }
    HASH_CLEAR(hh, words->by_text);
    for (size_t i = 1; i < words->slot_count; i++) {
        free(words->slots[i]);
    }
    free(words->slots);
    free(words->free_ids);
    free(words);
}

/* FNV-1a from a secret start, and a finalizer, so that two texts that meet do so for one secret only. */
static unsigned hash(const struct words *words, struct slice text)
{
    uint32_t h = 2166136261u ^ words->salt;
    for (size_t i = 0; i < text.len; i++) {
        h = (h ^ (uint8_t)text.at[i]) * 16777619u;
        h ^= h >> 15;
    }
    h = (h ^ words->salt) * 0x85ebca6bu;
    return h ^ h >> 13;
}

static struct slice cut(struct slice text)
{
    return (struct slice){ text.at, text.len < WORD_TEXT_MAX ? text.len : WORD_TEXT_MAX };
}

static struct word *find(const struct words *words, struct slice text)
{
    struct word *word = NULL;
    HASH_FIND_BYHASHVALUE(hh, words->by_text, text.at, text.len, hash(words, text), word);
    return word;
}

static void *grow(void *array, size_t *room, size_t wanted, size_t item)
{
    if (wanted <= *room) {
        return array;
    }
    *room = *room > 0 ? 2 * *room : 64;
    array = realloc(array, *room * item);
    assert(array != NULL);
    return array;
}

static word_id take_id(struct words *words)
{
    if (words->free_count > 0) {
        return words->free_ids[--words->free_count];
    }
    assert(words->slot_count < UINT32_MAX);
    words->slots = grow(words->slots, &words->slot_room, words->slot_count + 1, sizeof(struct word *));
    return (word_id)words->slot_count++;
}

word_id words_take(struct words *words, struct slice text)
{
    text = cut(text);
    if (text.len == 0) {
        return 0;
    }
    struct word *word = find(words, text);
    if (word == NULL) {
        word = calloc(1, sizeof *word);
        assert(word != NULL);
        memcpy(word->text, text.at, text.len);
        word->id = take_id(words);
        words->slots[word->id] = word;
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, words->by_text, word->text, text.len, hash(words, text), word);
    }
    word->refs++;
    return word->id;
}

void words_drop(struct words *words, word_id id)
{
    if (id == 0) {
        return;
    }
    struct word *word = words->slots[id];
    assert(word != NULL && word->refs > 0);
    if (--word->refs > 0) {
        return;
    }
    HASH_DEL(words->by_text, word);
    words->slots[id] = NULL;
    words->free_ids = grow(words->free_ids, &words->free_room, words->free_count + 1, sizeof *words->free_ids);
    words->free_ids[words->free_count++] = id;
    free(word);
}

void words_set(struct words *words, word_id *place, struct slice text)
{
    if (slice_is(cut(text), words_text(words, *place))) {
        return;
    }
    word_id taken = words_take(words, text); /* before the old one goes: `text` may be the old one's own */
    words_drop(words, *place);
    *place = taken;
}

const char *words_text(const struct words *words, word_id id)
{
    return id > 0 ? words->slots[id]->text : "";
}

word_id words_find(const struct words *words, struct slice text)
{
    const struct word *word = text.len > 0 && text.len <= WORD_TEXT_MAX ? find(words, text) : NULL;
    return word != NULL ? word->id : 0;
}

size_t words_count(const struct words *words)
{
    return HASH_COUNT(words->by_text);
}
