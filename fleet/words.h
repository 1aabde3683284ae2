/* Texts that many devices share (types, versions, SDKs), kept once each and counted. A device's record holds a number
 * instead of the text; what nobody holds is forgotten, so hostile devices can fill it only as far as there are devices.
 */
#ifndef FLEET_WORDS_H
#define FLEET_WORDS_H

#include "base/text.h"

#include <stddef.h>
#include <stdint.h>

#define WORD_TEXT_MAX 64 /* longer ones are cut */

typedef uint32_t word_id; /* 0 = "" */

struct words;
struct words *words_new(void);
void words_free(struct words *words);

/* Counts it; the same number for the same text while it is held. */
word_id words_take(struct words *words, struct slice text);
void words_drop(struct words *words, word_id word);
/* *place = the word for `text`, the one before let go. Costs one comparison where it is the same. */
void words_set(struct words *words, word_id *place, struct slice text);
const char *words_text(const struct words *words, word_id word);  /* valid while held */
word_id words_find(const struct words *words, struct slice text); /* 0 = nobody holds it (or "") */
size_t words_count(const struct words *words);

#endif
