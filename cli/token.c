/* token: names who may use the admin API over TCP. The server keeps a hash alone, so a token is shown once. */
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verb.h"

#include <stdlib.h>
#include <string.h>

static const struct flag flags[] = { COMMON_FLAGS };
static const struct flag new_flags[] = {
    { "role", FLAG_CHOICE, "read|operate|admin",
      "what its holder may: see; also send what is in the repository to devices, and stop that; or all (default: "
      "read)" },
    { "expires", FLAG_SPAN, "TIME", "until it is refused, such as 90d (default: never)" },
    COMMON_FLAGS,
};

#define TOKENS "/api/v1/tokens"

static void print_names(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    static const struct table_column columns[] = {
        { "NAME", TABLE_LEFT },    { "ROLE", TABLE_LEFT },      { "CREATED", TABLE_LEFT },
        { "EXPIRES", TABLE_LEFT }, { "LAST USED", TABLE_LEFT },
    };
    const json_t *tokens = json_object_get(reply, "tokens"), *token;
    if (json_array_size(tokens) == 0) {
        puts("there are no tokens; \"updraft token new NAME\" makes one");
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    size_t i;
    json_array_foreach(tokens, i, token)
    {
        char expires[96], used[SHOWN_SIZE];
        const char *end = field_text(token, "expires");
        snprintf(expires, sizeof expires, "%.40s%s", end[0] != '\0' ? end : "never",
                 field_true(token, "revoked")   ? " (revoked, not written down yet)"
                 : field_true(token, "expired") ? " (over)"
                                                : "");
        const char *last_used = shown_ago(field_text(token, "last_used"), used);
        table_row(table, (const char *const[]){ field_text(token, "name"), field_text(token, "role"),
                                                field_text(token, "created"), expires,
                                                last_used[0] != '\0' ? last_used : "never" });
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_ls(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, TOKENS);
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_names);
}

static const char *role_text(const char *role)
{
    return strcmp(role, "read") == 0      ? "read alone (--role operate or admin for more)"
           : strcmp(role, "operate") == 0 ? "read, and send what is in the repository to devices"
                                          : "do everything, also make tokens";
}

/* The token stands alone on stdout, so that it can go straight into a file. */
static void print_token(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    char until[64] = "";
    const char *expires = field_text(reply, "expires");
    if (expires[0] != '\0') {
        snprintf(until, sizeof until, ", until %.40s", expires);
    }
    shown_print(stdout, field_text(reply, "token"));
    putchar('\n');
    fflush(stdout);
    fprintf(stderr, "It may %s%s.\n", role_text(field_text(reply, "role")), until);
    fputs("This is the only time that it is shown. Keep it in a file that only you can read, and name that file in\n"
          "UPDRAFT_TOKEN_FILE.\n",
          stderr);
}

static enum cli_exit run_new(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL, *name = json_string(cli->args->words[0]);
    if (name == NULL) {
        shown_problem(cli->program, "the name is not valid UTF-8", "use letters, digits, \"-\" and \"_\"");
        return CLI_USAGE;
    }
    json_t *order = must(json_object());
    const char *role = args_get(cli->args, "role"), *expires = args_get(cli->args, "expires");
    json_object_set_new(order, "name", name);
    if (role != NULL) {
        json_object_set_new(order, "role", json_string(role));
    }
    if (expires != NULL) {
        json_object_set_new(order, "expires_in_s", json_integer(strtoll(expires, NULL, 10)));
    }
    api_path_begin(&path, TOKENS);
    enum api_result result = api_call(cli->api, "POST", &path, order, &reply);
    json_decref(order);
    return cli_answer(cli, result, reply, print_token);
}

static void print_removed(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    printf("removed ");
    shown_print(stdout, field_text(reply, "removed"));
    puts("; who uses it is refused from now on");
}

static enum cli_exit run_revoke(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, TOKENS);
    api_path_name(&path, cli->args->words[0]);
    enum api_result result = api_call(cli->api, "DELETE", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_removed);
}

const struct verb verb_token_ls = {
    .name = "token",
    .sub = "ls",
    .words = "",
    .flags = flags,
    .summary = "list the tokens by name",
    .more = "",
    .run = run_ls,
};
const struct verb verb_token_new = {
    .name = "token",
    .sub = "new",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .flags = new_flags,
    .summary = "make a token for the admin API over TCP, shown this once",
    .more = "Without --role it may read alone: that is enough for a dashboard or for Prometheus, and changes nothing "
            "where it leaks.",
    .run = run_new,
};
const struct verb verb_token_revoke = {
    .name = "token",
    .sub = "revoke",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .flags = flags,
    .summary = "make a token worthless",
    .more = "",
    .run = run_revoke,
};
