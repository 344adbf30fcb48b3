/* Layout of the flat parameter buffer that networks, plans and backends share: W and b of each layer in turn. */
#ifndef DESCENT_CORE_PARAMETERS_H
#define DESCENT_CORE_PARAMETERS_H

#include <stdint.h>

/* Offsets of one layer in floats. W and b are adjacent, [W, W + n_out n_in) [b, b + n_out), and each starts at a
 * multiple of PARAMETER_ALIGN; the gaps always hold zeros. [begin, end) covers the layer and its gaps. */
enum { PARAMETER_ALIGN = 16 };
struct parameter_segment {
  int64_t W, b, begin, end;
};

#endif
