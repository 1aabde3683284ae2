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

void job_list_clear(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

void job_list_append(struct job_list *list, struct job *job)
{
    struct mail *mail = &job->letter.mail;
    mail->next = NULL;
    *list->end = mail;
    list->end = &mail->next;
    list->count++;
}

/* Brokers acknowledge in order, so it is nearly always the first. */
struct job *job_list_take(struct job_list *list, int token)
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
