/* The learning rate as a function of time. With a the option learning_rate, g schedule.gamma, N schedule.every, the
 * epoch e and the step t both counted from 1, w warm-up steps and T steps in total, the base rate is
 *
 *   constant     a
 *   step         a g^floor((e - 1) / N)                                   (torch.optim.lr_scheduler.StepLR)
 *   exponential  a g^(e - 1)                                              (ExponentialLR)
 *   cosine       min + (a - min) (1 + cos(pi s / S)) / 2                  (CosineAnnealingLR, advanced every step)
 *                with s = t - 1 - w and S = T - w, both counted after the warm-up (Loshchilov and Hutter 2017)
 *   polynomial   min + (a - min) (1 - s / S)^power                        (PolynomialLR, advanced every step, where min
 *                with the same s and S                                    is 0)
 *   plateau      starts at a; after the (N + 1)-th epoch in a row without improvement it becomes
 *                max(g rate, min), unless that lowers it by at most 1e-8  (ReduceLROnPlateau, threshold_mode 'abs',
 *                                                                         threshold = min_delta, cooldown 0)
 *
 * and during the warm-up, t <= w, the rate is the base rate (cosine and polynomial: a) times t / w. Warm-up epochs are
 * w = warmup_epochs * steps of an epoch, rounded to a whole number. */
#ifndef DESCENT_TRAIN_SCHEDULE_H
#define DESCENT_TRAIN_SCHEDULE_H

#include <descent/descent.h>

/* The state of the plateau schedule; initially the learning rate and 0. */
struct schedule_plateau {
  double learning_rate;
  int64_t bad_epochs;
};

/* The learning rate of step `step`, in epoch `epoch`. The steps of an epoch, `epoch_steps`, matter to cosine, polynomial
 * and warmup_epochs only. */
double schedule_learning_rate(const descent_train_options *options, const struct schedule_plateau *plateau,
                              int64_t step, int64_t epoch, int64_t epoch_steps);

/* Call after each epoch; `improved` as in descent_epoch_info.best. */
void schedule_plateau_advance(const descent_train_options *options, struct schedule_plateau *plateau, bool improved);

#endif
