/* The library calls an option what its struct calls it; on the command line it is spelled otherwise. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
  const char *member, *command;
} words[] = {
    {"clip_norm", "--clip-norm"},
    {"learning_rate", "--lr"},
    {"weight_decay", "--weight-decay"},
    {"label_smoothing", "--label-smoothing"},
    {"batch_size", "--batch-size"},
    {"warmup_steps", "--warmup"},
    {"min_delta", "--min-delta"},
    {"top_k", "--top-k"},
    {"class_weights", "--class-weight"},
    {"balance_classes", "--class-weight balanced"},
    {"schedule_minimum", "--schedule's minimum"},
    {"schedule_gamma", "--schedule's factor"},
    {"schedule_every", "--schedule's epochs"},
    {"resume_with", "--resume-with"},
    {"checkpoint", "--checkpoint"},
    {"rollbacks", "--on-divergence rollback"},
};

static bool within_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == '/'; }

void option_words(const char *text, char *out, size_t size) {
  size_t used = 0;
  for (const char *c = text; *c && used + 1 < size;) {
    const char *word = NULL;
    size_t length = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words && !word && (c == text || !within_word(c[-1])); i++) {
      length = strlen(words[i].member);
      if (strncmp(c, words[i].member, length) == 0 && !within_word(c[length])) word = words[i].command;
    }
    if (word) {
      const int wrote = snprintf(out + used, size - used, "%s", word);
      used += (size_t)wrote < size - used ? (size_t)wrote : size - used - 1;
      c += length;
    } else {
      out[used++] = *c++;
    }
  }
  out[used] = '\0';
}

void option_library_word(const char *name, size_t length, char *out, size_t size) {
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strlen(words[i].command) == length + 2 && strncmp(words[i].command + 2, name, length) == 0) {
      snprintf(out, size, "%s", words[i].member);
      return;
    }
  snprintf(out, size, "%.*s", (int)length, name);
  for (char *c = out; *c; c++)
    if (*c == '-') *c = '_';
}
