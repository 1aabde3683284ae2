/* An operator's word on one device, read from the body of a request: what it is to run, its groups, whether it gets
 * anything. Nothing goes before all of it is read.
 */
#ifndef SERVER_DEVICE_WORD_H
#define SERVER_DEVICE_WORD_H

#include "server/admin_parts.h"

#define DEVICE_WORD_SAID_MAX 8 /* lines of the time-line in one word */

/* What is to be said, on top of what was said before. */
struct device_word {
    struct admin_call *call;
    struct policy_entry entry;
    word_id taken[3 + 2 * POLICY_GROUPS_MAX]; /* held while the word is worked on */
    size_t taken_count;
    bool stops, starts; /* it blocks; it says anything else */
    size_t said_count;
    struct {
        const char *word;
        char text[WORD_TEXT_MAX * 2 + 2];
    } said[DEVICE_WORD_SAID_MAX];
};

/* The members that a body may have; returns how many. */
#define DEVICE_WORD_MEMBERS_MAX 8
size_t device_word_members(const char *members[DEVICE_WORD_MEMBERS_MAX]);
/* Onto `entry`, which is as it was before. false = refused; what was taken is the caller's to drop in either case. */
bool device_word_read(struct device_word *word, const json_t *body);

#endif
