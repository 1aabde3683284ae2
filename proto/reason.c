#include "proto/reason.h"

#include <assert.h>

static const struct {
    const char *word;
    unsigned http_status;
    bool routine;
} rows[] = {
#define X(name, word, status, routine) { word, status, routine },
    REASON_LIST(X)
#undef X
};

const char *reason_word(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].word;
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
