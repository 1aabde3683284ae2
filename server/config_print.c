/* The configuration as people see it: what is in effect, and what there is to set. */
#include "server/config_parts.h"

#include "base/ini.h"
#include "server/broker_url.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct config_source *source_of(const struct config *config, const struct config_key *key)
{
    return &config->sources[key - config_keys];
}

void config_blame(const struct config *config, const char *name, char *to, size_t size)
{
    const struct config_key *key = config_key_find(name);
    const struct config_source *source = source_of(config, key);
    char variable[CONFIG_VARIABLE_MAX], file[CONFIG_BLAME_MAX - 100];
    switch (source->origin) {
    case CONFIG_OF_FILE:
        text_show(slice_of(config->config), file, sizeof file);
        snprintf(to, size, "--config %s: line %lu: %s", file, source->line, name);
        break;
    case CONFIG_OF_VARIABLE:
    case CONFIG_OF_SECRET_FILE:
        config_variable(key, variable);
        snprintf(to, size, "%s%s: %s", variable, source->origin == CONFIG_OF_SECRET_FILE ? "_FILE" : "", name);
        break;
    default:
        snprintf(to, size, "--%s", name);
    }
}

/* The comment behind a line. */
static void print_source(const struct config *config, const struct config_key *key, unsigned long line, FILE *to)
{
    char variable[CONFIG_VARIABLE_MAX];
    switch (source_of(config, key)->origin) {
    case CONFIG_OF_FILE:
        fprintf(to, " ; %s:%lu", config->config, line);
        break;
    case CONFIG_OF_VARIABLE:
    case CONFIG_OF_SECRET_FILE:
        config_variable(key, variable);
        fprintf(to, " ; environment %s%s", variable,
                source_of(config, key)->origin == CONFIG_OF_SECRET_FILE ? "_FILE" : "");
        break;
    default:
        fprintf(to, " ; %s", source_of(config, key)->origin == CONFIG_OF_FLAG ? "flag" : "default");
    }
}

static void print_pair(const struct config *config, const struct config_key *key, const char *value, unsigned long line,
                       const char *remark, FILE *to)
{
    const char *separator = ini_separator(key->name, value);
    if (separator != NULL) {
        fprintf(to, "%s%s%s", key->name, separator, value);
    } else {
        fprintf(to, "; %s is \"%s\", which no line of a file can say: leave it to the flag or variable", key->name,
                value);
    }
    print_source(config, key, line, to);
    fprintf(to, "%s\n", remark);
}

/* Without user and password. As typed, where a file's longest line has no room for what was left to the defaults. */
static void print_url(const struct config *config, const struct config_key *key, FILE *to)
{
    const char *text = config_text(config, key), *at = strrchr(text, '@');
    struct broker_url url;
    char shown[300], why[300];
    enum status status = broker_url_read(text, &url, why, sizeof why);
    assert(status == STATUS_OK); /* config_read looked */
    (void)status;
    broker_url_print(&url, shown, sizeof shown);
    if (ini_separator(key->name, shown) == NULL && at != NULL) {
        snprintf(shown, sizeof shown, "mqtt%s://%s", url.tls ? "s" : "", at + 1);
    } else if (ini_separator(key->name, shown) == NULL) {
        snprintf(shown, sizeof shown, "%s", text);
    }
    print_pair(config, key, shown, source_of(config, key)->line,
               url.user[0] != '\0' || url.password[0] != '\0' ? "; user and password are not shown" : "", to);
}

/* What is not set has no line; what is secret is not shown. */
static void print_text(const struct config *config, const struct config_key *key, FILE *to)
{
    const char *text = config_text(config, key);
    if (text[0] == '\0') {
        return;
    }
    if (key->kind == KIND_SECRET_URL) {
        print_url(config, key, to);
    } else if (key->kind == KIND_SECRET) {
        fprintf(to, "; %s is set and not shown", key->name);
        print_source(config, key, source_of(config, key)->line, to);
        fputc('\n', to);
    } else {
        print_pair(config, key, text, source_of(config, key)->line, "", to);
    }
}

static void print_assignment(void *owner, const struct mac *mac, const struct assignment *assignment)
{
    char name[MAC_TEXT_SIZE], words[2 * ASSIGNMENT_TEXT_MAX + 2];
    mac_print(mac, name);
    snprintf(words, sizeof words, "%s%s%s", assignment->type, assignment->type[0] != '\0' ? " " : "",
             assignment->label[0] != '\0' ? assignment->label : "newest");
    const char *separator = ini_separator(name, words);
    assert(separator != NULL); /* a line said it */
    fprintf(owner, "%s%s%s\n", name, separator, words);
}

/* Those of STATE/assignments.ini stay there: said twice, they would be refused. */
static void print_assignments(const struct config *config, FILE *to)
{
    size_t count = assignments_count(config->assignments);
    fprintf(to, "; %zu devices have an assignment", count);
    if (count > config->file_assignments) {
        fprintf(to, ", %zu of them in %s/assignments.ini", count - config->file_assignments, config->state);
    }
    fputs(config->file_assignments > 0 ? "\n\n[assign]\n" : "\n", to);
    assignments_each(config->assignments, config->file_assignments, print_assignment, to);
}

struct offer_lines {
    FILE *to;
    bool any;
};

static void print_offering(void *owner, const char *type, enum offering offering)
{
    struct offer_lines *lines = owner;
    const char *separator = ini_separator(type, offering_word(offering));
    assert(separator != NULL); /* a line said it */
    fprintf(lines->to, "%s%s%s%s\n", lines->any ? "" : "\n[offer]\n", type, separator, offering_word(offering));
    lines->any = true;
}

void config_print(const struct config *config, FILE *to)
{
    struct offer_lines lines = { .to = to };
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char number[32];
        if (strcmp(key->name, "config") == 0) {
            continue; /* a file does not name itself */
        }
        if (config_is_list(key)) {
            const struct config_list *list = config_list(config, key);
            for (size_t k = 0; k < list->count; k++) {
                print_pair(config, key, list->texts[k], list->lines[k], "", to);
            }
        } else if (config_is_text(key)) {
            print_text(config, key, to);
        } else {
            config_number_print(key, *config_number(config, key), number, sizeof number);
            print_pair(config, key, number, config->sources[i].line, "", to);
        }
    }
    offerings_each(config->offerings, print_offering, &lines);
    print_assignments(config, to);
}

void config_print_help(FILE *to)
{
    fputs("updraftd - serves firmware updates to ESP8266 and ESP32 devices\n\n"
          "usage: updraftd [--flag VALUE ...]\n\n"
          "Each flag is also a key of the file (repo = DIR) and a variable (UPDRAFT_REPO). Flags win over the\n"
          "environment, the environment over the file, the file over the defaults shown in brackets.\n\n",
          to);
    for (size_t i = 0; i < config_key_count; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", config_keys[i].name, config_keys[i].argument);
        fprintf(to, "  %-28s %s%s%s%s\n", flag, config_keys[i].help, config_keys[i].fallback[0] != '\0' ? " [" : "",
                config_keys[i].fallback, config_keys[i].fallback[0] != '\0' ? "]" : "");
    }
    for (size_t i = 0; i < config_flag_count; i++) {
        fprintf(to, "  --%-26s %s\n", config_flags[i].name, config_flags[i].help);
    }
    fputs("\nSIGTERM: transfers in flight end, then exit 0. SIGHUP: read configuration and assignments again.\n"
          "Devices are assigned to an exact build in the file's section [assign] or in STATE/assignments.ini:\n"
          "  5C:CF:7F:B1:E0:42 = door DOOR-7-g14f53a19\n"
          "Types whose new images are offered in another way than `offer` says stand in its section [offer]:\n"
          "  door = published\n",
          to);
}
