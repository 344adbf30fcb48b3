/* --config: a JSON object whose keys are long option names, turned into arguments that come before the real ones, so
 * that the command line wins and every check is the same. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

/* The whole file, ended by a NUL; NULL with errno set. */
static char *read_text(const char *path) {
  enum { LARGEST = 1 << 20 };
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  char *text = malloc(LARGEST + 1);
  size_t length = text ? fread(text, 1, LARGEST + 1, file) : 0;
  int error = !text ? ENOMEM : ferror(file) ? errno : length > LARGEST ? EFBIG : 0;
  fclose(file);
  if (error) {
    free(text);
    errno = error;
    return NULL;
  }
  text[length] = '\0';
  return text;
}

static int line_of(const char *text, const char *at) {
  int line = 1;
  for (; at && text < at; text++) line += *text == '\n';
  return line;
}

static bool is_scalar(const cJSON *value) { return cJSON_IsString(value) || cJSON_IsNumber(value); }

/* Can the option have this value? */
static bool fits(const struct setting *o, const cJSON *value) {
  const cJSON *element;
  if (o->kind == OPTION_FLAG) return cJSON_IsBool(value);
  if (!cJSON_IsArray(value)) return is_scalar(value);
  cJSON_ArrayForEach(element, value) if (!is_scalar(element)) return false;
  return true;
}

/* False when memory ran out. */
static bool append_scalar(FILE *out, const cJSON *value) {
  if (cJSON_IsString(value)) return fputs(value->valuestring, out) >= 0;
  char *number = cJSON_PrintUnformatted(value);
  const bool written = number && fputs(number, out) >= 0;
  cJSON_free(number);
  return written;
}

/* "--lr=0.01" for a key and a value that fits; NULL when memory ran out. */
static char *argument_of(const struct setting *o, const cJSON *value) {
  const cJSON *element;
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (!out) return NULL;
  bool written = fprintf(out, "--%s%s", o->name, o->kind == OPTION_FLAG ? "" : "=") > 0;
  if (cJSON_IsArray(value)) {
    cJSON_ArrayForEach(element, value) {
      if (element != value->child && fputc(',', out) == EOF) written = false;
      written = written && append_scalar(out, element);
    }
  } else if (o->kind != OPTION_FLAG) {
    written = written && append_scalar(out, value);
  }
  if (fclose(out) == 0 && written) return text;
  free(text);
  return NULL;
}

int options_config_read(const struct command_syntax *syntax, const char *path, int argc, char **argv,
                        struct option_config *config) {
  *config = (struct option_config){0};
  const char *end = NULL;
  int code = EXIT_DONE;
  cJSON *root = NULL;
  char *text = read_text(path);
  if (!text)
    return fail(syntax->name, errno == ENOMEM ? EXIT_RUN : EXIT_DATA, "%s: cannot read: %s", path, strerror(errno));
  errno = 0; /* malloc sets it; cJSON does not distinguish its failures */
  root = cJSON_ParseWithOpts(text, &end, true);
  if (!root && errno == ENOMEM) {
    code = fail(syntax->name, EXIT_RUN, "%s: out of memory", path);
    goto done;
  }
  if (!root) {
    code = fail(syntax->name, EXIT_USAGE, "%s:%d: not valid JSON", path, line_of(text, end));
    goto done;
  }
  if (!cJSON_IsObject(root)) {
    code = fail(syntax->name, EXIT_USAGE, "%s: must hold one JSON object of option names and values", path);
    goto done;
  }
  config->argv = calloc((size_t)argc + (size_t)cJSON_GetArraySize(root) + 1, sizeof *config->argv);
  if (!config->argv) {
    code = fail(syntax->name, EXIT_RUN, "out of memory");
    goto done;
  }
  config->argv[config->argc++] = argv[0];
  const cJSON *item;
  cJSON_ArrayForEach(item, root) {
    const struct setting *o = option_named(syntax, item->string);
    if (!o || strcmp(o->name, "config") == 0) {
      code = fail(syntax->name, EXIT_USAGE, "%s: unknown key '%s' (keys are the long options of %s --help)", path,
                  item->string, syntax->name);
      goto done;
    }
    if (!fits(o, item)) {
      code = fail(syntax->name, EXIT_USAGE, "%s: key '%s': must be %s", path, item->string,
                  o->kind == OPTION_FLAG ? "true or false" : "a string, a number or an array of them");
      goto done;
    }
    if (o->kind == OPTION_FLAG && cJSON_IsFalse(item)) continue;
    char *argument = argument_of(o, item);
    if (!argument) {
      code = fail(syntax->name, EXIT_RUN, "%s: out of memory", path);
      goto done;
    }
    config->argv[config->argc++] = argument;
  }
  config->n_config = config->argc - 1;
  for (int i = 1; i < argc; i++) config->argv[config->argc++] = argv[i];
done:
  if (code != EXIT_DONE) {
    config->n_config = config->argc ? config->argc - 1 : 0;
    options_config_free(config);
  }
  cJSON_Delete(root);
  free(text);
  return code;
}

void options_config_free(struct option_config *config) {
  /* argp permutes: only their place before parsing distinguishes the arguments made here from the borrowed ones, so
   * they come first by construction (each holds its value after '='). */
  for (int i = 1; i <= config->n_config; i++) free(config->argv[i]);
  free(config->argv);
  *config = (struct option_config){0};
}
