#include "proto/reason.h"

#include <assert.h>

static const struct {
    const char *word;
    unsigned http_status;
    bool routine;
    const char *text;
} rows[] = {
#define X(name, word, status, routine, text) { word, status, routine, text },
    REASON_LIST(X)
#undef X
};

const char *reason_word(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].word;
}

const char *reason_text(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].text;
}

unsigned reason_http_status(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].http_status;
}

bool reason_is_routine(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].routine;
}
