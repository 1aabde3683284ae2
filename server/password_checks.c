#include "server/password_checks.h"

#include "server/attempts.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define KEY_BYTES   32
#define DENIED_SIZE 1024

struct waiter {
    struct waiter *next;
    struct http_later *later;
};

/* Credentials to be worked out. The worker thread's from uv_queue_work to on_worked_out, but for its waiters. */
struct job {
    uv_work_t work;
    struct job *next;
    struct password_checks *checks;
    uint64_t generation; /* of the users whom it was made for */
    uint8_t digest[CREDENTIALS_DIGEST_BYTES];
    struct basic_auth auth;
    bool is_known;
    struct password_hash hash; /* of a known user */
    uint32_t rounds_max;
    bool fits;
    struct client_address who; /* whose attempt it is */
    struct waiter *waiters;
};

struct password_checks {
    uv_loop_t *loop;
    struct device_users *users;
    uint64_t generation;
    uint8_t key[KEY_BYTES]; /* without it nobody can say which place of the table credentials have */
    struct job *running, *first, **last;
    bool stopping;
    size_t jobs;
    struct password_counts counts;
    struct attempts *attempts;
    uint8_t denied[DENIED_SIZE][CREDENTIALS_DIGEST_BYTES]; /* zeros = free */
};

struct password_checks *password_checks_new(uv_loop_t *loop)
{
    struct password_checks *checks = calloc(1, sizeof *checks);
    struct attempts *attempts = attempts_new(&attempts_of_devices);
    if (checks == NULL || attempts == NULL ||
        getrandom(checks->key, sizeof checks->key, 0) != (ssize_t)sizeof checks->key) {
        free(checks);
        attempts_free(attempts);
        return NULL;
    }
    checks->loop = loop;
    checks->last = &checks->first;
    checks->attempts = attempts;
    return checks;
}

void password_checks_free(struct password_checks *checks)
{
    if (checks != NULL) {
        assert(checks->running == NULL && checks->first == NULL);
        device_users_free(checks->users);
        attempts_free(checks->attempts);
        OPENSSL_cleanse(checks->key, sizeof checks->key);
        free(checks);
    }
}

void password_checks_use(struct password_checks *checks, struct device_users *users)
{
    device_users_free(checks->users);
    checks->users = users;
    checks->generation++;
    memset(checks->denied, 0, sizeof checks->denied);
}

struct device_users *password_checks_users(const struct password_checks *checks)
{
    return checks->users;
}

struct password_counts password_checks_counts(const struct password_checks *checks)
{
    return checks->counts;
}

/* --- what is known ------------------------------------------------------------------------------------------------ */

/* The key in front is enough: nobody sees a digest, so there is none to go on from. HMAC takes four times as long. */
static bool digest_of(const struct password_checks *checks, const struct basic_auth *auth,
                      uint8_t digest[CREDENTIALS_DIGEST_BYTES])
{
    uint8_t bytes[KEY_BYTES + BASIC_AUTH_BYTES_MAX];
    memcpy(bytes, checks->key, KEY_BYTES);
    memcpy(bytes + KEY_BYTES, auth->bytes, auth->used);
    bool good = EVP_Digest(bytes, KEY_BYTES + auth->used, digest, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(bytes, sizeof bytes);
    return good;
}

static uint8_t *denied_place(struct password_checks *checks, const uint8_t *digest)
{
    return checks->denied[(digest[0] | (size_t)digest[1] << 8) % DENIED_SIZE];
}

static bool is_same(const uint8_t *one, const uint8_t *other)
{
    return CRYPTO_memcmp(one, other, CREDENTIALS_DIGEST_BYTES) == 0;
}

/* What came of a job, for those who ask next. */
static void remember(struct password_checks *checks, const struct job *job)
{
    struct device_user *user = job->fits ? device_users_find(checks->users, basic_auth_user(&job->auth)) : NULL;
    if (user != NULL) {
        memcpy(user->proven, job->digest, sizeof user->proven);
        user->is_proven = true;
    } else {
        memcpy(denied_place(checks, job->digest), job->digest, CREDENTIALS_DIGEST_BYTES);
    }
}

/* --- working it out ----------------------------------------------------------------------------------------------- */

/* Failing takes as long for every name, whether anyone has it or not, and however few rounds his hash has. */
static void on_work(uv_work_t *work)
{
    struct job *job = work->data;
    struct slice password = basic_auth_password(&job->auth);
    job->fits = job->is_known && password_hash_fits(&job->hash, password);
    if (!job->fits) {
        password_hash_spend(job->rounds_max - (job->is_known ? job->hash.rounds : 0), password);
    }
}

/* Those who wait for it ask once more. */
static void end_job(struct password_checks *checks, struct job *job, bool was_wrong)
{
    struct waiter *waiter = job->waiters, *next;
    if (!was_wrong) {
        attempts_give_back(checks->attempts, &job->who, uv_now(checks->loop));
    }
    OPENSSL_cleanse(&job->auth, sizeof job->auth);
    free(job);
    checks->jobs--;
    for (; waiter != NULL; waiter = next) {
        next = waiter->next;
        checks->counts.waiting--;
        http_later_again(waiter->later);
        free(waiter);
    }
}

static void start_next(struct password_checks *checks);

static void on_worked_out(uv_work_t *work, int error)
{
    struct job *job = work->data;
    struct password_checks *checks = job->checks;
    bool counts = error == 0 && job->generation == checks->generation; /* else for other users than there are now */
    checks->running = NULL;
    checks->counts.under_way = 0;
    checks->counts.worked_out++;
    if (counts) {
        remember(checks, job);
    }
    end_job(checks, job, counts && !job->fits);
    start_next(checks);
}

static void start_next(struct password_checks *checks)
{
    struct job *job = checks->first;
    if (checks->running != NULL || job == NULL) {
        return;
    }
    checks->first = job->next;
    checks->last = checks->first == NULL ? &checks->first : checks->last;
    checks->running = job;
    checks->counts.under_way = 1;
    int error = uv_queue_work(checks->loop, &job->work, on_work, on_worked_out);
    assert(error == 0); /* it has its function */
    (void)error;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static struct job *find_job(const struct password_checks *checks, const uint8_t *digest)
{
    struct job *running = checks->running;
    if (running != NULL && running->generation == checks->generation && is_same(running->digest, digest)) {
        return running;
    }
    for (struct job *job = checks->first; job != NULL; job = job->next) {
        if (job->generation == checks->generation && is_same(job->digest, digest)) {
            return job;
        }
    }
    return NULL;
}

static struct job *add_job(struct password_checks *checks, const struct basic_auth *auth, const uint8_t *digest,
                           const struct device_user *user)
{
    struct job *job = checks->jobs < PASSWORD_JOBS_MAX ? calloc(1, sizeof *job) : NULL;
    if (job == NULL) {
        return NULL;
    }
    *job = (struct job){ .checks = checks,
                         .generation = checks->generation,
                         .auth = *auth,
                         .is_known = user != NULL,
                         .rounds_max = device_users_rounds_max(checks->users) };
    job->work.data = job;
    memcpy(job->digest, digest, sizeof job->digest);
    if (user != NULL) {
        job->hash = user->hash;
    }
    *checks->last = job;
    checks->last = &job->next;
    checks->jobs++;
    return job;
}

/* It is to be worked out, for this address. NULL: not now. */
static struct job *begin_job(struct password_checks *checks, const struct basic_auth *auth, const uint8_t *digest,
                             const struct device_user *user, const struct client_address *who, const char **why)
{
    uint64_t now_ms = uv_now(checks->loop);
    if (!attempts_take(checks->attempts, who, now_ms)) {
        *why = "too many passwords from its address were wrong, or wait to be checked";
        return NULL;
    }
    struct job *job = add_job(checks, auth, digest, user);
    if (job == NULL) {
        attempts_give_back(checks->attempts, who, now_ms);
        *why = "too many passwords wait to be checked";
        return NULL;
    }
    job->who = *who;
    return job;
}

/* Whoever comes with the same credentials meanwhile costs nothing but his waiting: a fleet may share them. */
static struct http_later *wait_for(struct password_checks *checks, struct job *job)
{
    struct waiter *waiter = malloc(sizeof *waiter);
    assert(waiter != NULL);
    *waiter = (struct waiter){ .next = job->waiters, .later = http_later_new() };
    job->waiters = waiter;
    checks->counts.waiting++;
    start_next(checks);
    return waiter->later;
}

enum password_result password_checks_ask(struct password_checks *checks, const struct basic_auth *auth,
                                         const struct client_address *who, const struct device_user **user,
                                         const char **why, struct http_later **later)
{
    uint8_t digest[CREDENTIALS_DIGEST_BYTES];
    const struct device_user *named = device_users_find(checks->users, basic_auth_user(auth));
    if (!digest_of(checks, auth, digest)) {
        *why = "no memory for a digest";
        return PASSWORD_NOT_NOW;
    }
    if (named != NULL && named->is_proven && is_same(named->proven, digest)) {
        *user = named;
        return PASSWORD_RIGHT;
    }
    if (is_same(denied_place(checks, digest), digest)) {
        return PASSWORD_WRONG;
    }
    if (checks->stopping || checks->counts.waiting == PASSWORD_WAITERS_MAX) {
        *why = checks->stopping ? "the server stops" : "too many wait for their passwords to be checked";
        return PASSWORD_NOT_NOW;
    }
    struct job *job = find_job(checks, digest);
    job = job != NULL ? job : begin_job(checks, auth, digest, named, who, why);
    if (job == NULL) {
        return PASSWORD_NOT_NOW;
    }
    *later = wait_for(checks, job);
    return PASSWORD_LATER;
}

void password_checks_stop(struct password_checks *checks)
{
    checks->stopping = true;
    struct job *job = checks->first, *next;
    checks->first = NULL;
    checks->last = &checks->first;
    for (; job != NULL; job = next) {
        next = job->next;
        end_job(checks, job, false);
    }
}
