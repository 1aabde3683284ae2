/* What makes it hard: ids are long, so a beginning will do, or a type, where that cannot be misunderstood: an abort
 * that hit another one could not be taken back.
 */
#include "cli/rollout_named.h"

#include "cli/follow.h"

#include <string.h>

#define ROLLOUTS "/api/v1/rollouts"
#define ID_SIZE  16 /* hexadecimal digits */

enum api_result rollouts_ask_all(struct cli *cli, json_t **reply)
{
    struct api_path path;
    api_path_begin(&path, ROLLOUTS);
    return api_call(cli->api, "GET", &path, NULL, reply);
}

/* Those of the list that a word may mean. */
struct meant {
    const json_t *one; /* NULL = none, or several */
    size_t count;
    const json_t *past; /* the newest of this type, where none of it is under way */
    char ids[512];      /* of them all */
    size_t used;
};

static void mean(struct meant *meant, const json_t *rollout)
{
    meant->one = meant->count++ == 0 ? rollout : NULL;
    if (meant->used < sizeof meant->ids) {
        meant->used += (size_t)snprintf(meant->ids + meant->used, sizeof meant->ids - meant->used, "%s%.32s",
                                        meant->used > 0 ? ", " : "", field_text(rollout, "id"));
    }
}

/* By its whole id; else a type of which one is under way; else the beginning of an id. */
static void find_meant(const json_t *rollouts, const char *word, struct meant *meant)
{
    struct progress progress;
    const json_t *rollout;
    struct meant types = { .count = 0 }, beginnings = { .count = 0 };
    size_t i;
    json_array_foreach(rollouts, i, rollout)
    {
        const char *id = field_text(rollout, "id");
        follow_read(rollout, &progress);
        bool of_type = strcmp(field_text(rollout, "type"), word) == 0;
        if (strcmp(id, word) == 0) {
            memset(meant, 0, sizeof *meant);
            mean(meant, rollout);
            return;
        }
        if (of_type && !progress_is_over(&progress)) {
            mean(&types, rollout);
        } else if (of_type && types.past == NULL) { /* the newest comes first */
            types.past = rollout;
        }
        if (strncmp(id, word, strlen(word)) == 0) {
            mean(&beginnings, rollout);
        }
    }
    *meant = types.count > 0 || (types.past != NULL && beginnings.count == 0) ? types : beginnings;
}

static enum cli_exit not_one(const struct cli *cli, const struct meant *meant, const char *word)
{
    char message[256], remedy[700];
    if (meant->count > 1) {
        snprintf(message, sizeof message, "\"%.64s\" may be any of %zu rollouts", word, meant->count);
        snprintf(remedy, sizeof remedy, "give more of the id: %s", meant->ids);
    } else if (meant->past != NULL) {
        snprintf(message, sizeof message, "no rollout of %.64s is under way", word);
        snprintf(remedy, sizeof remedy, "the last was %.32s, which is %.16s", field_text(meant->past, "id"),
                 field_text(meant->past, "state"));
    } else {
        snprintf(message, sizeof message, "there is no rollout \"%.64s\"", word);
        snprintf(remedy, sizeof remedy, "\"updraft rollouts\" lists those that are remembered");
    }
    cli_say_error(cli, meant->count > 1 ? "ambiguous" : "unknown-rollout", message, remedy);
    return CLI_FAILED;
}

static void set_path(struct api_path *path, const char *id)
{
    api_path_begin(path, ROLLOUTS);
    api_path_name(path, id);
}

/* One that left the list is still known by its id. */
static enum api_result ask_for_older(struct cli *cli, const char *word, struct api_path *path, bool *found)
{
    json_t *reply = NULL;
    *found = false;
    if (strlen(word) != ID_SIZE || strspn(word, "0123456789abcdef") != ID_SIZE) {
        return API_DONE;
    }
    set_path(path, word);
    enum api_result result = api_call(cli->api, "GET", path, NULL, &reply);
    *found = result == API_DONE;
    json_decref(reply);
    return result == API_REFUSED && api_problem(cli->api)->status == 404 ? API_DONE : result;
}

bool rollout_find_path(struct cli *cli, bool to_look, struct api_path *path, enum cli_exit *code)
{
    json_t *reply = NULL;
    struct meant meant = { .count = 0 };
    const char *word = cli->args->words[0];
    bool found = false;
    enum api_result result = rollouts_ask_all(cli, &reply);
    if (result == API_DONE) {
        find_meant(json_object_get(reply, "rollouts"), word, &meant);
        meant.one = to_look && meant.count == 0 ? meant.past : meant.one;
        found = meant.one != NULL;
    }
    if (found) {
        set_path(path, field_text(meant.one, "id"));
    } else if (result == API_DONE && meant.count == 0 && meant.past == NULL) {
        result = ask_for_older(cli, word, path, &found);
    }
    if (!found) {
        *code = result == API_DONE ? not_one(cli, &meant, word) : cli_refused(cli, result);
    }
    json_decref(reply);
    return found;
}
