/* Letters, and the list of those that wait for their answer. What makes it hard: nothing, as long as each has one
 * reader. */
#include "mqtt/session_letter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void *letter_new(enum letter_kind kind, size_t size, size_t room)
{
    struct letter *letter = malloc(size + room);
    assert(letter != NULL);
    memset(letter, 0, size);
    letter->kind = kind;
    return letter;
}

void letters_free(struct mail_list *letters)
{
    struct mail *mail = letters->first;
    mail_list_clear(letters);
    while (mail != NULL) {
        struct mail *next = mail->next;
        free(mail);
        mail = next;
    }
}

struct job *job_new(const char *topic, const void *payload, size_t payload_bytes)
{
    struct job *job = letter_new(LETTER_JOB, sizeof *job, payload_bytes);
    size_t topic_bytes = strnlen(topic, SESSION_TOPIC_MAX);
    memcpy(job->topic, topic, topic_bytes);
    if (payload_bytes > 0) {
        memcpy(job->bytes, payload, payload_bytes);
    }
    job->payload = job->bytes;
    job->payload_bytes = payload_bytes;
    return job;
}

/* Brokers acknowledge in order, so it is nearly always the first. */
struct job *job_take(struct mail_list *list, int token)
{
    struct mail **at = &list->first;
    while (*at != NULL && ((struct job *)*at)->token != token) {
        at = &(*at)->next;
    }
    struct mail *mail = *at;
    if (mail != NULL) {
        *at = mail->next;
        list->end = mail->next == NULL ? at : list->end;
        list->count--;
    }
    return (struct job *)mail;
}
