/* Descent: training of feed-forward (fully connected) networks. This is the only public header. In use, error texts and
 * clean-up aside:
 *
 *     descent_device *device = NULL;
 *     descent_dataset *data = NULL;
 *     descent_network *network = NULL;
 *     descent_dataset_options source = descent_dataset_options_default();
 *     descent_network_options shape = descent_network_options_default();
 *     descent_train_options options = descent_train_options_default();
 *     const int64_t widths[] = {16, 1};
 *     float probability[569]; // one per row
 *     source.target = "diagnosis";
 *     shape.inputs = 30, shape.layers = 2, shape.widths = widths;
 *     options.epochs = 20, options.optimizer.learning_rate = 0.01;
 *     if (descent_device_open("auto", 0, &device) || descent_dataset_read("breast_cancer.csv", &source, &data) ||
 *         descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
 *         descent_network_fit_preprocessing(network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false) ||
 *         descent_fit(network, device, data, NULL, &options, NULL) ||
 *         descent_predict(network, device, data, probability) || descent_network_save(network, "model.safetensors"))
 *       fprintf(stderr, "%s\n", descent_last_error());
 *
 * The header reads from the simple to the advanced: status, names, devices, networks, datasets, training, evaluation
 * and prediction, then the tools that check and measure the engine itself.
 *
 * Conventions, true of every function unless its own comment says otherwise:
 * - A function that can fail returns `descent_status`; DESCENT_OK is 0. On failure outputs are unchanged and
 *   descent_last_error() describes the error on this thread. Any function that allocates may return ERROR_MEMORY.
 * - Matrices are row-major, one example per row. Sizes count elements, never bytes.
 * - A pointer may be NULL only where its comment says so. Any other NULL, an object that was freed and an object of
 *   another kind are ERROR_ARGUMENT, and the text names the argument. Functions that return no status then return 0,
 *   NULL, NaN or "", or do nothing. (A freed object is recognised until about 64 others of its kind were freed after it.)
 * - Arrays and texts passed in are copied, unless their comment says borrowed and until when.
 * - An option struct starts from its ..._default() function; see "option structs" below.
 * - `create`, `open`, `read`, `load`, `clone` and `split` return objects that the matching `free` or `close` releases;
 *   freeing NULL does nothing, and so does freeing twice. Objects may be freed in any order: a trainer keeps its network
 *   and its device for itself until it is freed, though the caller can no longer use them.
 * - Distinct objects may be used from distinct threads at the same time; one object from one thread at a time, though
 *   several threads may share what they pass as a pointer to const. Freeing counts as a use, and a trainer as a use of
 *   its network. A device may be used by several threads at once, and closed when no call uses it: on a CPU, a call that
 *   finds the device's threads busy computes alone; on a GPU, calls take turns. The results are those of a thread alone.
 * - A callback must not use the objects of the call that makes it, and must return: a C++ exception or a longjmp must not
 *   leave it.
 * - While a trainer of a network lives, functions that change the network's parameters or preprocessing, descent_fit
 *   included, are ERROR_ARGUMENT: the trainer works on a copy and would overwrite the change. Of several trainers of one
 *   network the last descent_trainer_sync remains.
 * - The library keeps no global state except the thread's error text and progress callback, the list of files being
 *   written (see descent_remove_unfinished_files), memory of freed objects and a random key for hashing. It never
 *   prints, exits or aborts. One process-wide effect: while a CPU device is open, the BLAS library uses one thread,
 *   since the device runs products in parallel itself; closing the last one restores the number of before. The calling
 *   thread's current CUDA device stays as it is. HDF5 files are read by a child process, made by fork(), while they are
 *   open.
 * - After fork() the child may use and free the datasets and networks that it inherits, and open devices. Inherited
 *   devices, and trainers on them, are ERROR_DEVICE there: their threads and CUDA contexts exist in the parent only. A
 *   parent that forks while other threads call the library leaves the child what POSIX grants: functions that are
 *   async-signal-safe.
 */
#ifndef DESCENT_DESCENT_H
#define DESCENT_DESCENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(DESCENT_BUILDING) && defined(__GNUC__)
#define DESCENT_API __attribute__((visibility("default")))
#else
#define DESCENT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DESCENT_VERSION_MAJOR 0
#define DESCENT_VERSION_MINOR 3
#define DESCENT_VERSION_PATCH 0
#define DESCENT_VERSION "0.3.0"
/* 10000 major + 100 minor + patch: 300 for 0.3.0. */
#define DESCENT_VERSION_NUMBER (DESCENT_VERSION_MAJOR * 10000 + DESCENT_VERSION_MINOR * 100 + DESCENT_VERSION_PATCH)

/* ---- status ---------------------------------------------------------------------------------------------------- */

/* X(name, text) in numeric order from 0. */
#define DESCENT_STATUS_MAP(X)            \
  X(OK, "ok")                            \
  X(ERROR_MEMORY, "out of memory")       \
  X(ERROR_ARGUMENT, "invalid argument")  \
  X(ERROR_READ, "cannot read")           \
  X(ERROR_WRITE, "cannot write")         \
  X(ERROR_DATA, "bad data")              \
  X(ERROR_MODEL, "bad model file")       \
  X(ERROR_DEVICE, "device error")        \
  X(ERROR_UNSUPPORTED, "not supported")  \
  X(ERROR_DIVERGED, "training diverged") \
  X(ERROR_INTERNAL, "internal error")    \
  X(ERROR_CANCELLED, "cancelled")

typedef enum descent_status {
#define DESCENT_STATUS_ENUM(name, text) DESCENT_##name,
  DESCENT_STATUS_MAP(DESCENT_STATUS_ENUM)
#undef DESCENT_STATUS_ENUM
} descent_status;

/* The fixed text of a status, "unknown status" for any other number; never NULL. */
DESCENT_API const char *descent_status_text(descent_status status);

/* One line about the last failure on this thread: what, where, the offending value, what to do; at most 1023 bytes.
 * Valid until the next call on this thread that may fail; "" when nothing has failed. Success leaves it as it is. */
DESCENT_API const char *descent_last_error(void);

/* Removes the temporary files of all functions that are writing a file now, on any thread. For a handler of signals that
 * end the process: async-signal-safe. What is being written then fails. */
DESCENT_API void descent_remove_unfinished_files(void);

/* How far a call is; the texts are valid during the callback. Later versions of this header add members at the end. */
typedef struct descent_progress {
  const char *task;    /* "reading data.csv", "writing data.npz", "evaluating", "predicting" */
  const char *unit;    /* of `done` and `total`: "bytes" or "rows" */
  int64_t done, total; /* total is 0 where it is not known, as of a pipe */
} descent_progress;

/* From here on the functions called on this thread that read or write a dataset or run over one report to `on_progress`
 * (NULL: to none), at the first opportunity and then about every 0.1 seconds. A non-zero return cancels the call, which
 * then returns ERROR_CANCELLED; a file that it was writing is left as it was. To cancel from another thread, let
 * that set a flag that on_progress returns. descent_fit has its own callbacks. */
DESCENT_API void descent_set_progress(int (*on_progress)(void *user, const descent_progress *progress), void *user);

/* The library's version and what was built in, e.g. "0.3.0 (cpu: OpenBLAS 0.3.21; cuda: not built; ...)"; a build of the
 * core alone has "formats: not built". Static. */
DESCENT_API const char *descent_version(void);
/* The DESCENT_VERSION_NUMBER of the library, which may differ from that of the header. */
DESCENT_API int descent_version_number(void);

/* ---- option structs ---------------------------------------------------------------------------------------------
 * An option struct starts from its defaults: `descent_train_options options = descent_train_options_default();`. Then
 * set members by name. ..._default() calls ..._init(), which writes the library's defaults into the first `size` bytes,
 * for languages that do not read this header too.
 *
 * Structs grow, so a program works with a library of another version of this header:
 * - New members come at the end of a struct, or in a group's `reserved` space, so that no member moves. `size` says
 *   which members a program knows.
 * - A smaller size, of an older header, is accepted: the missing members take their defaults.
 * - A larger size, of a newer header, is accepted as long as the members unknown to this library are 0, as ..._init()
 *   leaves them. Otherwise it is ERROR_ARGUMENT, and so is a `reserved` that is not 0, or a size that is no struct's.
 *
 * A struct that the library fills in the caller's memory starts with `size` too, or keeps its layout for the name of its
 * function: where it has grown, this header gives the function another name (below), and the plain name fills the
 * struct of before, for programs that were compiled with that or look the name up at run time (dlsym, ctypes).
 */
/* Since 0.3.0, for descent_bench_result with link_bandwidth and descent_metrics with balanced_accuracy. */
#define descent_bench descent_bench_0_3
#define descent_evaluate descent_evaluate_0_3
#define descent_metrics_clear descent_metrics_clear_0_3

#define DESCENT_DECLARE_OPTIONS(type)                       \
  DESCENT_API void type##_init(type *options, size_t size); \
  static inline type type##_default(void) {                 \
    type options;                                           \
    type##_init(&options, sizeof options);                  \
    return options;                                         \
  }

/* ---- the terms of the field -------------------------------------------------------------------------------------
 * X(NAME, "name", ...) tables; ..._name() gives the lower-case name, ..._parse() reads it back
 * (DESCENT_ERROR_ARGUMENT, with the list of known names, for any other text). */

/* g(z). gelu is the exact one, z Phi(z) (Hendrycks and Gimpel 2016); silu is z sigmoid(z); leaky_relu has slope 0.01
 * below zero (PyTorch's default). */
#define DESCENT_ACTIVATION_MAP(X) \
  X(IDENTITY, "identity")         \
  X(SIGMOID, "sigmoid")           \
  X(TANH, "tanh")                 \
  X(RELU, "relu")                 \
  X(LEAKY_RELU, "leaky_relu")     \
  X(GELU, "gelu")                 \
  X(SILU, "silu")

/* Losses per example, from the output layer's values. The cross-entropies take logits z (the output activation is
 * identity) and are computed in their stable form.
 *   binary_cross_entropy   1 output:  softplus(z) - y z                  = -[y log a + (1-y) log(1-a)], a = sigmoid(z)
 *   softmax_cross_entropy  K outputs: logsumexp(z) - z[y]                = -log softmax(z)[y]
 *   mean_squared_error     K outputs: mean_k (a_k - y_k)^2 */
#define DESCENT_LOSS_MAP(X)                         \
  X(BINARY_CROSS_ENTROPY, "binary_cross_entropy")   \
  X(SOFTMAX_CROSS_ENTROPY, "softmax_cross_entropy") \
  X(MEAN_SQUARED_ERROR, "mean_squared_error")

/* Initial weights (biases start at 0). With fan_in = n_{l-1}, fan_out = n_l the variance is
 *   xavier  2 / (fan_in + fan_out)  (Glorot and Bengio 2010)    he  2 / fan_in  (He et al. 2015)
 *   lecun   1 / fan_in              (LeCun et al. 1998)
 * auto: he_normal before relu, leaky_relu, gelu and silu; xavier_uniform before the others. */
#define DESCENT_INIT_MAP(X)           \
  X(AUTO, "auto")                     \
  X(XAVIER_UNIFORM, "xavier_uniform") \
  X(XAVIER_NORMAL, "xavier_normal")   \
  X(HE_UNIFORM, "he_uniform")         \
  X(HE_NORMAL, "he_normal")           \
  X(LECUN_UNIFORM, "lecun_uniform")   \
  X(LECUN_NORMAL, "lecun_normal")

/* Per input feature, fitted on the training rows: standard (x - mean) / standard deviation (of the population),
 * minmax (x - min) / (max - min), none. A constant feature is only shifted. */
#define DESCENT_NORMALIZE_MAP(X) X(NONE, "none") X(STANDARD, "standard") X(MINMAX, "minmax")

/* Update rules, as PyTorch defines them. gd is plain gradient descent, w -= alpha dJ/dw; sgd adds momentum (and
 * Nesterov's form); rmsprop (Hinton 2012); adam (Kingma and Ba 2015); adamw (Loshchilov and Hutter 2019). For large
 * batches, lars (You, Gitman and Ginsburg 2017) and lamb (You et al. 2020): the step of each layer's W is that of sgd
 * with momentum, or of adam, times a trust ratio in proportion to |W|; b has the same rule without ratio. */
#define DESCENT_OPTIMIZER_MAP(X) \
  X(GD, "gd") X(SGD, "sgd") X(RMSPROP, "rmsprop") X(ADAM, "adam") X(ADAMW, "adamw") X(LARS, "lars") X(LAMB, "lamb")

#define DESCENT_SCHEDULE_MAP(X) \
  X(CONSTANT, "constant")       \
  X(STEP, "step")               \
  X(EXPONENTIAL, "exponential") \
  X(COSINE, "cosine")           \
  X(PLATEAU, "plateau")         \
  X(POLYNOMIAL, "polynomial")

#define DESCENT_TASK_MAP(X) X(AUTO, "auto") X(BINARY, "binary") X(CLASSES, "classes") X(REGRESSION, "regression")

/* A cell with a category that the network does not know: an error, or zeros in all inputs of its column. */
#define DESCENT_UNSEEN_MAP(X) X(ERROR, "error") X(ZEROS, "zeros")

/* What replaces a missing number, fitted on the training rows; a missing category becomes the most frequent one. */
#define DESCENT_IMPUTE_MAP(X) X(MEAN, "mean") X(MEDIAN, "median") X(MOST_FREQUENT, "most_frequent")

/* Export formats: an ONNX graph (IR 8, opset 17), one file of C99, NumPy arrays. */
#define DESCENT_EXPORT_FORMAT_MAP(X) X(ONNX, "onnx") X(C, "c") X(NPZ, "npz")

#define DESCENT_PRECISION_MAP(X) X(FP32, "fp32") X(TF32, "tf32") X(BF16, "bf16")

/* Several layers in one kernel of a GPU: where it is estimated or measured to be faster, never, always. */
#define DESCENT_FUSION_MAP(X) X(AUTO, "auto") X(OFF, "off") X(ON, "on")

/* The elements of an array: IEEE 754 floats, bfloat16, integers. */
#define DESCENT_DTYPE_MAP(X) \
  X(F32, "f32") X(F64, "f64") X(F16, "f16") X(BF16, "bf16") X(U8, "u8") X(I32, "i32") X(I64, "i64")

/* Where an array is: in the process's memory, or in a GPU's. */
#define DESCENT_PLACE_MAP(X) X(HOST, "host") X(CUDA, "cuda")

#define DESCENT_DECLARE_TERM(type, PREFIX, MAP)                        \
  DESCENT_API const char *descent_##type##_name(descent_##type value); \
  DESCENT_API descent_status descent_##type##_parse(const char *text, descent_##type *value);

#define DESCENT_ENUM_ACTIVATION(NAME, text) DESCENT_ACTIVATION_##NAME,
#define DESCENT_ENUM_LOSS(NAME, text) DESCENT_LOSS_##NAME,
#define DESCENT_ENUM_INIT(NAME, text) DESCENT_INIT_##NAME,
#define DESCENT_ENUM_NORMALIZE(NAME, text) DESCENT_NORMALIZE_##NAME,
#define DESCENT_ENUM_OPTIMIZER(NAME, text) DESCENT_OPTIMIZER_##NAME,
#define DESCENT_ENUM_SCHEDULE(NAME, text) DESCENT_SCHEDULE_##NAME,
#define DESCENT_ENUM_TASK(NAME, text) DESCENT_TASK_##NAME,
#define DESCENT_ENUM_UNSEEN(NAME, text) DESCENT_UNSEEN_##NAME,
#define DESCENT_ENUM_IMPUTE(NAME, text) DESCENT_IMPUTE_##NAME,
#define DESCENT_ENUM_EXPORT_FORMAT(NAME, text) DESCENT_EXPORT_FORMAT_##NAME,
#define DESCENT_ENUM_PRECISION(NAME, text) DESCENT_PRECISION_##NAME,
#define DESCENT_ENUM_FUSION(NAME, text) DESCENT_FUSION_##NAME,
#define DESCENT_ENUM_DTYPE(NAME, text) DESCENT_DTYPE_##NAME,
#define DESCENT_ENUM_PLACE(NAME, text) DESCENT_PLACE_##NAME,

typedef enum { DESCENT_ACTIVATION_MAP(DESCENT_ENUM_ACTIVATION) } descent_activation;
typedef enum { DESCENT_LOSS_MAP(DESCENT_ENUM_LOSS) } descent_loss;
typedef enum { DESCENT_INIT_MAP(DESCENT_ENUM_INIT) } descent_init;
typedef enum { DESCENT_NORMALIZE_MAP(DESCENT_ENUM_NORMALIZE) } descent_normalize;
typedef enum { DESCENT_OPTIMIZER_MAP(DESCENT_ENUM_OPTIMIZER) } descent_optimizer;
typedef enum { DESCENT_SCHEDULE_MAP(DESCENT_ENUM_SCHEDULE) } descent_schedule;
typedef enum { DESCENT_TASK_MAP(DESCENT_ENUM_TASK) } descent_task;
typedef enum { DESCENT_UNSEEN_MAP(DESCENT_ENUM_UNSEEN) } descent_unseen;
typedef enum { DESCENT_IMPUTE_MAP(DESCENT_ENUM_IMPUTE) } descent_impute;
typedef enum { DESCENT_EXPORT_FORMAT_MAP(DESCENT_ENUM_EXPORT_FORMAT) } descent_export_format;
typedef enum { DESCENT_PRECISION_MAP(DESCENT_ENUM_PRECISION) } descent_precision;
typedef enum { DESCENT_FUSION_MAP(DESCENT_ENUM_FUSION) } descent_fusion;
typedef enum { DESCENT_DTYPE_MAP(DESCENT_ENUM_DTYPE) } descent_dtype;
typedef enum { DESCENT_PLACE_MAP(DESCENT_ENUM_PLACE) } descent_place;

/* X(type, its table): every term, for programs that list them. */
#define DESCENT_TERM_MAP(X)                                  \
  X(activation, ACTIVATION, DESCENT_ACTIVATION_MAP)          \
  X(loss, LOSS, DESCENT_LOSS_MAP)                            \
  X(init, INIT, DESCENT_INIT_MAP)                            \
  X(normalize, NORMALIZE, DESCENT_NORMALIZE_MAP)             \
  X(optimizer, OPTIMIZER, DESCENT_OPTIMIZER_MAP)             \
  X(schedule, SCHEDULE, DESCENT_SCHEDULE_MAP)                \
  X(task, TASK, DESCENT_TASK_MAP)                            \
  X(unseen, UNSEEN, DESCENT_UNSEEN_MAP)                      \
  X(impute, IMPUTE, DESCENT_IMPUTE_MAP)                      \
  X(export_format, EXPORT_FORMAT, DESCENT_EXPORT_FORMAT_MAP) \
  X(precision, PRECISION, DESCENT_PRECISION_MAP)             \
  X(fusion, FUSION, DESCENT_FUSION_MAP)                      \
  X(dtype, DTYPE, DESCENT_DTYPE_MAP)                         \
  X(place, PLACE, DESCENT_PLACE_MAP)
DESCENT_TERM_MAP(DESCENT_DECLARE_TERM)
#undef DESCENT_DECLARE_TERM

/* ---- ranks ------------------------------------------------------------------------------------------------------ */

/* Connects the processes, or ranks, that train one network together (`ranks` of descent_train_options). Every rank makes
 * the same collective calls in the same order: open, gather, and descent_fit with the communicator. A communicator is
 * used by one thread, the one that opened it. After a rank did not answer in time, or the connection failed, every later
 * collective call is ERROR_DEVICE, and messages that were under way may still arrive in memory that the call used: save
 * what is to be kept, and end the process. */
typedef struct descent_communicator descent_communicator;

/* Collective. "single" is this process alone; "self" is too, but it exchanges gradients with itself, which tests a GPU's way
 * between ranks without a second GPU, and so it cuts steps into micro-batches, even into a single one; "mpi" are the ranks
 * that a launcher such as mpirun or srun started, or one rank without a launcher. Initialises MPI unless the program has.
 * A rank that does not answer for `seconds` (> 0) counts as lost; they must cover what ranks wait for, such as the writing
 * of a checkpoint by rank 0. ERROR_ARGUMENT for another kind or time; ERROR_DEVICE without MPI, where a rank does not
 * answer and where ranks have different versions of the library. */
DESCENT_API descent_status descent_communicator_open(const char *kind, double seconds,
                                                     descent_communicator **communicator);
/* Finalises MPI if _open initialised it, unless a collective call has failed: then the process must end, as by
 * descent_communicator_abort. */
DESCENT_API void descent_communicator_close(descent_communicator *communicator);

/* This rank's number, from 0, and the number of ranks; the same among the ranks of this host. */
DESCENT_API int descent_communicator_rank(const descent_communicator *communicator);
DESCENT_API int descent_communicator_size(const descent_communicator *communicator);
DESCENT_API int descent_communicator_local_rank(const descent_communicator *communicator);
DESCENT_API int descent_communicator_local_size(const descent_communicator *communicator);
/* The host of a rank, without its domain unless hosts differ only there; "" if there is no such rank. Valid until the
 * communicator is closed. */
DESCENT_API const char *descent_communicator_host(const descent_communicator *communicator, int rank);
/* This rank's share of the cores that the ranks of its host may use, at least 1: threads for descent_device_open. */
DESCENT_API int descent_communicator_threads(const descent_communicator *communicator);

/* Collective: `all` (size, bytes) receives the `bytes` of `data` of every rank, in the order of the ranks. */
DESCENT_API descent_status descent_communicator_gather(descent_communicator *communicator, const void *data,
                                                       size_t bytes, void *all);
/* Ends the processes of all ranks with this exit code, for a rank that cannot continue while others wait for it. Returns
 * where there is only one rank. */
DESCENT_API void descent_communicator_abort(descent_communicator *communicator, int code);

/* ---- devices ---------------------------------------------------------------------------------------------------- */

typedef struct descent_device descent_device;

/* Opens a device: "cpu" (float32, the embedded default), "reference" (float64, naive: the oracle of the tests),
 * "cuda" or "cuda:<i>" (a GPU), "cuda:GPU-<uuid>" or "cuda:MIG-<uuid>" (the same by its UUID or any unique beginning of
 * it), "auto" (the usable GPU with the most free memory, otherwise the CPU). `threads` (0 = one per core this process
 * may run on, at most 256) applies to the CPU. ERROR_ARGUMENT for an unknown name, a NULL pointer or a number of
 * threads out of range, ERROR_DEVICE when the device cannot be used or no device has that number or UUID; the text
 * names those that exist. With a GPU, "auto" included, a wrong setting in the environment is an error too:
 * ERROR_ARGUMENT (DESCENT_CUDA_CHOOSE), ERROR_WRITE (DESCENT_CUDA_TRACE). Of a GPU that is divided into MIG instances
 * CUDA shows a process one: the first, or the one that CUDA_VISIBLE_DEVICES names before CUDA is first used. */
DESCENT_API descent_status descent_device_open(const char *name, int threads, descent_device **device);
DESCENT_API void descent_device_close(descent_device *device);

/* One line: kind, model, threads, instruction set, BLAS. Valid until the device is closed. */
DESCENT_API const char *descent_device_description(const descent_device *device);
/* "cpu", "reference", "cuda:0", ... Valid until the device is closed. */
DESCENT_API const char *descent_device_name(const descent_device *device);
/* One line on why "auto" did not choose a GPU; "" when it did, or when the device was named. Valid while the device
 * is open. */
DESCENT_API const char *descent_device_note(const descent_device *device);

/* Of a GPU: orders the device's work on arrays in its memory (see "arrays") with a stream of the caller's, a cudaStream_t,
 * which must stay valid until the device is closed or another is set: that work waits for what the stream holds when a
 * call begins, and what the stream is given later waits for that work. NULL is CUDA's default stream, as it is until
 * this is called. ERROR_ARGUMENT for another kind of device. */
DESCENT_API descent_status descent_device_set_stream(descent_device *device, void *stream);

/* What is known about a GPU before it is opened; the texts are valid during the callback. Later versions of this header
 * add members at the end. */
typedef struct descent_device_info {
  const char *name;         /* "cuda:0" */
  const char *model;        /* "NVIDIA H200" */
  const char *uuid;         /* "GPU-..." or, for a MIG instance, "MIG-..." */
  const char *pci;          /* "0000:3b:00.0": domain, bus, device */
  const char *driver;       /* NVIDIA's driver, "580.95.05"; "" without the management library (NVML) */
  const char *cuda_driver;  /* the newest CUDA that the driver supports, "13.0" */
  const char *cuda_runtime; /* the CUDA that the backend was built with */
  const char *cublas;       /* the cuBLASLt that was loaded, "13.1.0"; "" if none can be */
  int compute_major, compute_minor, multiprocessors;
  int64_t memory_free, memory_total; /* bytes; free: -1 without NVML */
} descent_device_info;
/* Calls on_device for every GPU of this machine in the order of their numbers, usable or not. It creates no context and
 * so takes no GPU memory. ERROR_DEVICE, with the reason, without a GPU or a CUDA backend. */
DESCENT_API descent_status descent_device_list(void (*on_device)(void *user, const descent_device_info *info),
                                               void *user);

/* ---- arrays -----------------------------------------------------------------------------------------------------
 * The functions that end in _arrays take and give the caller's arrays as they are: of any dtype, with any strides, where
 * the others take dense float32. Start from `descent_array a = descent_array_default();`, a dense one in the process's
 * memory. What is read is rounded to float32, and a finite number that float32 cannot hold is ERROR_ARGUMENT; F32
 * without gaps is used without a copy. What is written is rounded to the array's dtype, a float (infinite where it
 * exceeds F16). Every ERROR_ARGUMENT names the argument.
 *
 * Arrays in a GPU's memory are for objects on that GPU, ERROR_ARGUMENT elsewhere, and may be mixed with arrays of the
 * host. F32 without gaps at an address that is a multiple of 16 is read where it is; others are converted on the GPU.
 * Inputs, targets and weights do not pass through the host, nor do predictions and outputs. Gradients with respect to
 * inputs (dX) do, and so does all that a network with offsets (descent_network_input_offset) takes and gives. */
typedef struct descent_array {
  size_t size;
  void *data; /* element (0, 0) */
  descent_dtype dtype;
  descent_place place;
  int32_t ordinal;       /* of the GPU: 0 for "cuda:0"; ignored for the host */
  int64_t rows, columns; /* at least 1; a vector has one column */
  int64_t row_stride;    /* elements from one row to the next, may be negative; 0: columns * column_stride */
  int64_t column_stride; /* and from one column to the next; 0: 1 */
} descent_array;
DESCENT_DECLARE_OPTIONS(descent_array)

/* ---- datasets ----------------------------------------------------------------------------------------------------
 * Rows of float32 features X (rows, inputs), targets y (rows, targets) and optionally weights (rows). For the tasks
 * binary and classes y has one column that holds the class index 0 .. classes-1 as a float. */

typedef struct descent_dataset descent_dataset;
typedef struct descent_network descent_network;

typedef struct descent_dataset_options {
  size_t size;
  const char *format; /* csv, npy, npz, idx, svmlight (svmlight:0 and svmlight:1 set the base of its indices), hdf5 or
                         safetensors; NULL: by the file's ending or content */
  const char *target; /* column name, or 0-based index as text (negative: from the end). For regression several, with
                         commas between, unless one column has the whole text as its name. NULL: what the format itself
                         calls the target, else none */
  const char *target_file;   /* all targets come from this file (npy, IDX, CSV), row by row; not with target */
  const char *weight_column; /* named like the target; its numbers, at least 0, become the rows' weights; or NULL */
  descent_task task; /* auto: texts are classes, and so are whole numbers of at most 20 different values that repeat: 2
                        of them, or each in 2 rows on average (2 values: binary); else regression. Of CSV, dates,
                        numbers with signs, and 5 or more texts that differ in over half of the rows are ERROR_DATA */
  int header;        /* 1 yes, 0 no, -1 detected: a first row that has no numbers, or has the named target or all of
                        the network's column names, is a header. So is a row with whole numbers where a text stands
                        above a number, or where they count 0, 1, 2, .. or 1, 2, 3, 4, .. and the next row does not */
  /* Take the columns, their order, their categories and the class names from this network. Columns are matched by name
   * when both the network and the file have names, otherwise by position. A missing column is ERROR_DATA naming it.
   * Unknown columns are ignored. With `target` NULL the network's own target column is used if the file has it, or by
   * position where it was in training, with or without the columns that were left out then. `task` is the network's or
   * auto. Borrowed for the call; NULL: none. */
  const descent_network *network;
  const char *const *ignore; /* (ignored) columns to leave out: names, or indices as for `target`; borrowed for the
                                call. Where columns are matched by name, they need not exist */
  int64_t ignored;
  const char *const *categorical; /* (categoricals) columns whose cells are categories even if they look like numbers;
                                     other columns are classified by the cells of their first rows */
  int64_t categoricals;
  const char *const *missing; /* (missing_texts) cells that count as missing, surrounding blanks ignored; a number
                                 matches every cell of its value, also in files of numbers. NULL: those of `network`;
                                 without it, or if it has none, an empty cell, ?, NA, N/A, NaN and null */
  int64_t missing_texts;
  descent_unseen unseen; /* kept for the network; with `network`: DESCENT_UNSEEN_ERROR means the network's own policy */
  char delimiter;        /* 0: detected among , ; tab | in the first line */
  bool indicators;       /* one more input for each column with missing cells: 1 where the cell is missing, else 0 */
  bool strict;           /* infer nothing: columns hold numbers unless listed as categorical, cells are missing only if
                            listed as such */
  bool features_only;    /* leave the target's cells unread, whatever they hold; the dataset then has no target */
  char decimal;          /* of CSV: '.' or ',', not the delimiter; the other one may then separate thousands. 0: as in
                            the data of `network`; without it, detected: a point, unless all of the first cells of a
                            column can only be read with a decimal comma, or with commas between thousands */
  char unused[7];        /* 0 */
  int64_t max_rows;      /* descent_dataset_read: only so many rows from the beginning, what is behind them is not read;
                            0: all. A sample, whose categories and classes are those of these rows */
} descent_dataset_options;
DESCENT_DECLARE_OPTIONS(descent_dataset_options)

/* Reads a file into memory: CSV (RFC 4180; comma, semicolon, tab or bar; quotes; CR LF; UTF-8 with or without
 * byte-order mark; "-" is standard input; gzip-compressed or not), NumPy .npy and .npz ("file.npz:name" picks an
 * array), IDX, svmlight, HDF5 ("file.h5:path"), or the binary form that descent_dataset_save writes, which is mapped
 * rather than read. No two feature columns may have the same name. A first column without a name (or "Unnamed: 0")
 * holds row numbers and is left out, unless it is the target or the only feature. A text column gives one input per
 * category (at most 1000 of them, sorted by bytes). A missing cell is NaN in every input of its column until a network
 * replaces it; rows without their target are dropped. Classes are sorted, numbers by value and texts by bytes; there
 * are 2 to 65536. ERROR_READ, ERROR_DATA with file:line, column and value, or ERROR_ARGUMENT for the options. */
DESCENT_API descent_status descent_dataset_read(const char *path, const descent_dataset_options *options,
                                                descent_dataset **dataset);

/* Reads the same files `rows` rows at a time, in order, holding one block in memory: for predictions on files larger
 * than memory. options->network and features_only must be set. `take` gets each block, valid during the call; a
 * non-zero return ends the reading there, as a success. Errors as above; earlier blocks have then been taken. */
DESCENT_API descent_status descent_dataset_read_blocks(const char *path, const descent_dataset_options *options,
                                                       int64_t rows,
                                                       int (*take)(void *user, const descent_dataset *block),
                                                       void *user);

/* Writes the dataset (of a view: its rows) in the format of the path's extension; an existing file is replaced only
 * after everything is written. Numbers are exact: every format gives the same float32 back.
 *   .csv .tsv      a header where there are names, categories and classes by name; weights and targets come last
 *   .safetensors   the binary form, which descent_dataset_read maps; keeps everything
 *   .npz .h5 .hdf5 X, y, weights, and arrays of names, which readers ignore
 *   .npy .idx      X and the targets as last columns; IDX whole numbers from 0 to 255 only
 *   .svm .svmlight .libsvm  one target, indices from 1, zeros left out
 * All but the first two hold the inputs, with categories as columns of 0 and 1, and a class by its name where all names
 * are whole numbers, else by its index. ERROR_ARGUMENT for another extension; ERROR_WRITE, also for what the format
 * cannot hold; ERROR_UNSUPPORTED for HDF5 where it is not built in; ERROR_DATA when mapped data no longer matches its
 * checksum. */
DESCENT_API descent_status descent_dataset_save(const descent_dataset *dataset, const char *path);

/* The same for spreadsheets: in .csv and .tsv, names, categories and classes that begin with = + - @, a tab or a line
 * break and are not numbers get an apostrophe in front, so that they are not computed as formulas. Read again they
 * have it too. ERROR_ARGUMENT for other extensions. */
DESCENT_API descent_status descent_dataset_save_guarded(const descent_dataset *dataset, const char *path);

/* Reads `path` twice, holding a block of rows, y and the weights in memory, and writes the binary form to `to`: for
 * files larger than memory, with the same result as descent_dataset_read and descent_dataset_save. `*dataset` is then
 * the mapped file. options->network must be NULL; neither standard input nor the binary form can be converted. */
DESCENT_API descent_status descent_dataset_convert(const char *path, const descent_dataset_options *options,
                                                   const char *to, descent_dataset **dataset);

/* Wraps the caller's memory without copying: X (rows, inputs), y (rows, targets) or NULL, weights (rows) or NULL, all
 * borrowed until the dataset and every view split from it are freed. `task` must be binary, classes or regression: it
 * is not inferred here. `classes` is K for task classes (2 .. 2^24), 2 for binary, ignored for regression; `targets` is
 * 1 unless the task is regression. Without y, `task`, `classes` and `targets` are ignored. ERROR_ARGUMENT for these,
 * for sizes below 1, a class index out of range, an infinite X (NaN is a missing cell), another non-finite value or a
 * negative weight. The dataset has no names. */
DESCENT_API descent_status descent_dataset_create(const float *X, const float *y, const float *weights, int64_t rows,
                                                  int64_t inputs, int64_t targets, descent_task task, int64_t classes,
                                                  descent_dataset **dataset);
/* The same from arrays: X (rows, inputs), y (rows, targets) or NULL, weights (rows, 1) or NULL. F32 of the host without
 * gaps, and such an X of U8, is borrowed as above; the dataset has a copy of any other. X of U8 stays bytes, which
 * devices widen and normalise as they read rows: results have the bits of the same numbers as F32. `device` is that of
 * arrays in a GPU's memory, NULL without any; the dataset keeps it open. X of that GPU, F32 or U8 without gaps at an
 * address that is a multiple of 16, is borrowed too: descent_fit and the functions that evaluate or predict a dataset
 * on that device read it there. All others, on other devices too, read the dataset's copy in the host's memory. */
DESCENT_API descent_status descent_dataset_create_arrays(descent_device *device, const descent_array *X,
                                                         const descent_array *y, const descent_array *weights,
                                                         descent_task task, int64_t classes, descent_dataset **dataset);
DESCENT_API void descent_dataset_free(descent_dataset *dataset);

/* Splits rows at random (by seed) into two views that share the storage: `held_out` has round(fraction * rows) rows,
 * for tasks with classes that share of each class. 0 < fraction < 1, else ERROR_ARGUMENT; ERROR_DATA when either side
 * would be empty. The parent may be freed before the views. Both views list their rows in ascending order of the
 * parent. */
DESCENT_API descent_status descent_dataset_split(const descent_dataset *dataset, double fraction, uint64_t seed,
                                                 descent_dataset **kept, descent_dataset **held_out);

/* Fold `fold`, 0 .. folds - 1, of a cross-validation: the rows are dealt at random (by seed) into `folds` >= 2 parts of
 * almost equal size, for tasks with classes with almost equal shares of each class. `held_out` is that part, `kept` all
 * others, as views as from descent_dataset_split. ERROR_ARGUMENT for a number out of range; ERROR_DATA for fewer rows than
 * folds. */
DESCENT_API descent_status descent_dataset_fold(const descent_dataset *dataset, int64_t folds, int64_t fold,
                                                uint64_t seed, descent_dataset **kept, descent_dataset **held_out);

/* What it holds: a view's own rows, everything else as its parent. */
DESCENT_API int64_t descent_dataset_rows(const descent_dataset *dataset);
DESCENT_API int64_t descent_dataset_inputs(const descent_dataset *dataset);
DESCENT_API int64_t descent_dataset_targets(const descent_dataset *dataset);   /* 0 without a target */
DESCENT_API descent_task descent_dataset_task(const descent_dataset *dataset); /* undefined without a target */
DESCENT_API int64_t descent_dataset_classes(const descent_dataset *dataset);   /* 0 for regression */
/* Names, UTF-8; NULL when there is none or the index is out of range. Valid while the dataset or a view of it lives. */
DESCENT_API const char *descent_dataset_input_name(const descent_dataset *dataset, int64_t input);
DESCENT_API const char *descent_dataset_target_name(const descent_dataset *dataset, int64_t target);
DESCENT_API const char *descent_dataset_class_name(const descent_dataset *dataset, int64_t class_index);
/* The columns that the inputs are made from, in their order: `inputs` of them where each is a number. */
DESCENT_API int64_t descent_dataset_columns(const descent_dataset *dataset);
DESCENT_API const char *descent_dataset_column_name(const descent_dataset *dataset, int64_t column);
/* How many categories a column has, 0 for numbers, and their names. */
DESCENT_API int64_t descent_dataset_column_categories(const descent_dataset *dataset, int64_t column);
DESCENT_API const char *descent_dataset_column_category(const descent_dataset *dataset, int64_t column,
                                                        int64_t category);
/* How many inputs a column gives; 0 out of range. */
DESCENT_API int64_t descent_dataset_column_inputs(const descent_dataset *dataset, int64_t column);
/* counts (columns) = the missing cells of each column in this view; looks at all of its rows. */
DESCENT_API void descent_dataset_missing(const descent_dataset *dataset, int64_t *counts);
/* Rows that were dropped because their target is missing. */
DESCENT_API int64_t descent_dataset_dropped(const descent_dataset *dataset);
/* Cells with a category that the network does not know, which became zeros. */
DESCENT_API int64_t descent_dataset_unseen(const descent_dataset *dataset);
/* Cells of the file that float32 does not hold exactly; `change`, unless NULL: the largest relative change. */
DESCENT_API int64_t descent_dataset_rounded(const descent_dataset *dataset, double *change);
/* One line about decisions of the reader that may surprise (decimal commas, columns matched by position, a first column
 * without a name left out, arrays of the file that are not read), or "". Valid while the dataset or a view of it
 * lives. */
DESCENT_API const char *descent_dataset_note(const descent_dataset *dataset);
/* Rows of this class in this view; 0 when out of range. */
DESCENT_API int64_t descent_dataset_class_count(const descent_dataset *dataset, int64_t class_index);
/* A value of X or y in double, as the file has it up to the rounding of float32; NaN when out of range, when the cell is
 * missing or without a target. A column that float32 is too coarse for (timestamps, 1000000.01) is kept as differences
 * to a number near it, subtracted in double; these functions add that again. */
DESCENT_API double descent_dataset_input_value(const descent_dataset *dataset, int64_t row, int64_t input);
DESCENT_API double descent_dataset_target_value(const descent_dataset *dataset, int64_t row, int64_t target);
/* The largest change of a cell of this input or target by rounding to float32; 0 when every cell is exact or nothing is
 * known, and out of range. `spread`, unless NULL, is then the standard deviation over at most 10,000 rows of the view,
 * evenly spread: a change of more than about 2^-16 of it is lost to the training. */
DESCENT_API double descent_dataset_input_rounding(const descent_dataset *dataset, int64_t input, double *spread);
DESCENT_API double descent_dataset_target_rounding(const descent_dataset *dataset, int64_t target, double *spread);
/* Copies row `row` (from 0) of X (inputs floats), raw as read; ERROR_ARGUMENT when out of range. */
DESCENT_API descent_status descent_dataset_row(const descent_dataset *dataset, int64_t row, float *X);
/* Copies the targets of row `row` (targets floats: class index or values); ERROR_ARGUMENT when out of range or without
 * a target. */
DESCENT_API descent_status descent_dataset_target(const descent_dataset *dataset, int64_t row, float *y);
/* The weight of row `row`, 1 in a dataset without weights; ERROR_ARGUMENT when out of range. */
DESCENT_API descent_status descent_dataset_weight(const descent_dataset *dataset, int64_t row, float *weight);

/* ---- networks ---------------------------------------------------------------------------------------------------
 * Layer l = 1..layers computes Z[l] = A[l-1] W[l]^T + b[l], A[l] = g_l(Z[l]); W[l] is (n_l, n_{l-1}), b[l] (n_l). */

typedef struct descent_network_options {
  size_t size;
  int64_t inputs;                        /* n_0 >= 1 */
  int32_t layers;                        /* dense layers, hidden ones and the output; 1 .. 10000 */
  descent_loss loss;                     /* cross-entropies need identity as the output layer's activation */
  const int64_t *widths;                 /* (layers) n_1 .. n_layers, each >= 1; the last is the number of outputs: 1
                                            for binary_cross_entropy, >= 2 for softmax_cross_entropy; copied */
  const descent_activation *activations; /* (layers); NULL: relu, and identity for the output layer; copied */
} descent_network_options;
DESCENT_DECLARE_OPTIONS(descent_network_options)

/* All parameters 0, no normalisation, no names. ERROR_ARGUMENT names the offending layer; ERROR_MEMORY states the
 * requested size. */
DESCENT_API descent_status descent_network_create(const descent_network_options *options, descent_network **network);
DESCENT_API void descent_network_free(descent_network *network);

/* Draws the weights of every layer (see DESCENT_INIT_MAP) and zeroes the biases. Equal seeds give equal bits.
 * ERROR_ARGUMENT for an unknown `init`. */
DESCENT_API descent_status descent_network_initialise(descent_network *network, descent_init init, uint64_t seed);

/* Fits the preprocessing to the rows of `dataset`: the replacement for missing cells (NaN) of each column, then the
 * input normalisation with that in place. For regression it optionally standardises the targets too: the loss is then
 * in units of the target's standard deviation, while predictions and RMSE stay in the target's own. It also keeps the
 * column, target and class names. Rows without targets will do unless the targets are standardised: the network's names
 * and scaling of targets, and its class names, then stay as they are. Call it before training, with the training rows
 * only. ERROR_ARGUMENT when the shapes do not fit; ERROR_DATA when all cells of a column are missing. */
DESCENT_API descent_status descent_network_fit_preprocessing(descent_network *network, const descent_dataset *dataset,
                                                             descent_normalize inputs, descent_impute impute,
                                                             bool standardise_targets);

/* What is done to inputs and targets, each array NULL where nothing is. x is a value as the dataset has it: a column with
 * an offset (descent_network_input_offset) holds the difference to it. */
typedef struct descent_preprocessing {
  size_t size;
  descent_normalize normalize;    /* what `shift` and `scale` were fitted by; none: both are NULL */
  descent_impute impute;          /* what `fill` was fitted by */
  const float *shift, *scale;     /* (inputs): an input is (x - shift) * scale, scale > 0; NULL: 0 and 1 */
  const float *fill;              /* (inputs): replaces a missing cell; NULL: a missing cell is an error */
  const float *y_shift, *y_scale; /* (outputs), regression: the network learns (y - y_shift) * y_scale; NULL: 0 and 1 */
} descent_preprocessing;
DESCENT_DECLARE_OPTIONS(descent_preprocessing)

/* Replaces the whole preprocessing by values that were fitted elsewhere; arrays are copied. Column, target and class
 * names stay. ERROR_ARGUMENT names the array and the value: it must be finite, a scale above 0, targets only for
 * regression, shift and scale only with a `normalize`; and for a network that a trainer uses. */
DESCENT_API descent_status descent_network_set_preprocessing(descent_network *network,
                                                             const descent_preprocessing *preprocessing);
/* Fills `preprocessing`, whose `size` must be set, e.g. by ..._default(). Its arrays belong to the network: they are
 * valid while it lives and until its preprocessing is set or fitted again. */
DESCENT_API descent_status descent_network_get_preprocessing(const descent_network *network,
                                                             descent_preprocessing *preprocessing);

/* Sets names, UTF-8, copied: of the inputs (inputs), the regression targets (outputs) or the one target of a classifier
 * (1), and the classes (classes). NULL leaves those names as they are. ERROR_ARGUMENT for a NULL or empty name, for two
 * equal ones in a list, for class names of a regression, for input names where columns hold categories or indicators,
 * whose names come from the data; and for a network that a trainer uses. The network is then unchanged. */
DESCENT_API descent_status descent_network_set_names(descent_network *network, const char *const *inputs,
                                                     const char *const *targets, const char *const *classes);

/* Copies parameters in or out. layer 1 .. layers; W (n_l, n_{l-1}), b (n_l); either may be NULL. set: ERROR_ARGUMENT
 * for a non-finite value. */
DESCENT_API descent_status descent_network_get_layer(const descent_network *network, int32_t layer, float *W, float *b);
DESCENT_API descent_status descent_network_set_layer(descent_network *network, int32_t layer, const float *W,
                                                     const float *b);

DESCENT_API int64_t descent_network_inputs(const descent_network *network);
DESCENT_API int32_t descent_network_layers(const descent_network *network);
DESCENT_API int64_t descent_network_outputs(const descent_network *network);
/* Layer 0: inputs; 0 outside 0 .. layers. */
DESCENT_API int64_t descent_network_width(const descent_network *network, int32_t layer);
/* layer 1 .. layers; identity outside. */
DESCENT_API descent_activation descent_network_activation(const descent_network *network, int32_t layer);
DESCENT_API descent_loss descent_network_loss(const descent_network *network);
DESCENT_API descent_task descent_network_task(const descent_network *network);  /* follows from the loss */
DESCENT_API int64_t descent_network_parameters(const descent_network *network); /* count of weights and biases */
DESCENT_API int64_t descent_network_classes(const descent_network *network);    /* 2, K, or 0 for regression */
DESCENT_API descent_normalize descent_network_normalize(const descent_network *network);
DESCENT_API descent_impute descent_network_impute(const descent_network *network);
/* Whether it can replace missing cells: once its preprocessing is fitted. */
DESCENT_API bool descent_network_imputes(const descent_network *network);
/* Names, UTF-8; NULL when there is none or the index is out of range. Valid while the network lives and until its
 * preprocessing is fitted again or its names are set. */
DESCENT_API const char *descent_network_input_name(const descent_network *network, int64_t input);
/* What is subtracted from this input, or this regression target, in double before it is rounded to float32, chosen by the
 * reader of a file whose column float32 is too coarse for; 0 for any other. */
DESCENT_API double descent_network_input_offset(const descent_network *network, int64_t input);
DESCENT_API double descent_network_target_offset(const descent_network *network, int64_t target);
/* The value of a regression target is shift + scale * raw, where raw is what descent_predict_raw gives: in double it
 * keeps digits that the float32 of descent_predict rounds away. 0 and 1 for classifiers and out of range. */
DESCENT_API void descent_network_target_scaling(const descent_network *network, int64_t target, double *shift,
                                                double *scale);
DESCENT_API const char *descent_network_target_name(const descent_network *network, int64_t target);
/* The columns that the inputs are made from, as descent_dataset_columns and its relatives give them. */
DESCENT_API int64_t descent_network_columns(const descent_network *network);
DESCENT_API const char *descent_network_column_name(const descent_network *network, int64_t column);
DESCENT_API int64_t descent_network_column_categories(const descent_network *network, int64_t column);
DESCENT_API const char *descent_network_column_category(const descent_network *network, int64_t column,
                                                        int64_t category);
/* The first index, 0 or 1, of the svmlight files that the network reads, which is that of the one it was trained on;
 * -1: it was trained on another format, and each svmlight file shows its own. */
DESCENT_API int descent_network_svmlight_base(const descent_network *network);
DESCENT_API const char *descent_network_class_name(const descent_network *network, int64_t class_index);
/* A free text kept in the model file, e.g. the training configuration as JSON; "" when unset, valid until the next set.
 * set copies it (NULL unsets; ERROR_ARGUMENT when it is not UTF-8). */
DESCENT_API const char *descent_network_provenance(const descent_network *network);
/* The version of the library that wrote the file this network was loaded from; "" if unknown. */
DESCENT_API const char *descent_network_library(const descent_network *network);
/* The training step of the checkpoint that this network was loaded from; -1 for any other network. */
DESCENT_API int64_t descent_network_checkpoint_step(const descent_network *network);
DESCENT_API descent_status descent_network_set_provenance(descent_network *network, const char *text);

/* One .safetensors file: `layers.<l>.weight` (out, in) and `layers.<l>.bias` (l from 0, as PyTorch counts), float32;
 * everything else (activations, loss, normalisation, names, version) as JSON in its metadata. Those of an ensemble are
 * called `members.<k>.layers.<l>.weight` and so on. Saving writes a temporary
 * file beside `path` and renames it, so `path` always holds the complete old or the complete new file. ERROR_WRITE;
 * ERROR_READ or ERROR_MODEL with byte offset and value (ERROR_DATA for a file that holds a dataset); a checksum detects
 * alterations. Saving and loading keeps every bit. */
DESCENT_API descent_status descent_network_save(const descent_network *network, const char *path);
DESCENT_API descent_status descent_network_load(const char *path, descent_network **network);

/* The same bytes in the caller's memory. save: `*size` is the number of bytes of the file; they are written to `data`, of
 * `capacity` bytes, unless `data` is NULL, which only asks for the size. ERROR_ARGUMENT where `capacity` is too small:
 * `*size` is set and `data` unchanged. load: `data` is read during the call only; errors as from a file. */
DESCENT_API descent_status descent_network_save_memory(const descent_network *network, void *data, size_t capacity,
                                                       size_t *size);
DESCENT_API descent_status descent_network_load_memory(const void *data, size_t size, descent_network **network);

/* An independent copy with everything that a model file keeps. */
DESCENT_API descent_status descent_network_clone(const descent_network *network, descent_network **clone);

/* An ensemble: one network that predicts the mean of its members, whose probabilities, or values, are averaged. It has
 * everything that a network has, in one model file, and all functions that predict, evaluate, save and export take it.
 * descent_predict_raw gives log mean probability for classes (for binary, the logit of the mean), so that the output
 * function gives the mean. An ensemble is not trained: ERROR_UNSUPPORTED from functions that train, measure a training
 * or change parameters or preprocessing, and from descent_network_get_layer; train its members with descent_fit_members,
 * and then join them.
 *
 * join copies `count` >= 1 networks of equal shape, loss, preprocessing and names: otherwise ERROR_ARGUMENT names the
 * network, from 0, and what differs. The ensemble has the provenance of the first. A count of 1 gives a plain copy. */
DESCENT_API descent_status descent_network_join(const descent_network *const *networks, int64_t count,
                                                descent_network **ensemble);
/* Members of an ensemble; 1 for a plain network. descent_network_parameters counts those of all members. */
DESCENT_API int64_t descent_network_members(const descent_network *network);
/* Copies member 0 .. members - 1 as a plain network; ERROR_ARGUMENT when out of range. */
DESCENT_API descent_status descent_network_member(const descent_network *network, int64_t member,
                                                  descent_network **copy);

/* Writes the network with everything that prediction needs (replacing missing values, encoding categories,
 * normalisation, the output function, names) in a format that other programs run or read:
 *   onnx  input X (N, inputs), or where columns hold categories one input (N, 1) per column, named as it is (with _
 *         behind it where a value inside is called so); NaN or an empty text counts as missing, a category that the
 *         network does not know as none. Outputs label (N) and probabilities (N, classes), or prediction (N, targets)
 *   c     void predict(const float *x, float *y): x a row's columns, NAN where missing, a category by its number; y as
 *         descent_predict gives it. A comment at its top says which
 *   npz   the model file's tensors by their names, and `metadata`, its JSON, as bytes
 * An ensemble is one graph, function or file; label follows from the mean of the members.
 * Files are replaced as by descent_network_save. ERROR_WRITE; ERROR_UNSUPPORTED for what the format cannot hold. */
DESCENT_API descent_status descent_network_export(const descent_network *network, descent_export_format format,
                                                  const char *path);

/* Copies the weights and biases of any .safetensors file with the same number of linear layers into an existing
 * network: a model file, or a PyTorch state_dict of nn.Sequential (0.weight, 0.bias, 2.weight, ..., also behind one
 * common prefix), in the order of their numbers. F32; F64 is rounded, F16 and BF16 are widened. ERROR_READ; ERROR_MODEL
 * names the tensor that does not fit, and refuses the file of an ensemble; the network is then unchanged. */
DESCENT_API descent_status descent_network_load_weights(descent_network *network, const char *path);

/* ---- evaluation and prediction ---------------------------------------------------------------------------------- */

#define DESCENT_CONFUSION_CLASSES 1024

/* Measures that do not apply to the task are NaN, 0 or NULL. The dataset's weights count in the loss only: every other
 * measure takes each row once. New members come at the end, with a new version of the functions that fill it. */
typedef struct descent_metrics {
  int64_t rows;
  double loss;     /* mean loss per example weighted by the dataset's weights; no class weights, no smoothing */
  double accuracy; /* classifiers, from logits z; binary: z >= 0 is class 1; ties go to the
                            lowest class index */
  double auc;      /* binary: area under the ROC curve, from logits, ties count half; NaN when a class is absent */
  int64_t top_k;   /* the k of top_k_accuracy; 0 unless the task is classes */
  double top_k_accuracy; /* share of rows whose class is among the k largest outputs */
  double rmse;           /* regression, over all targets, in the targets' own units */
  double r2;             /* 1 - residual / total sum of squares, mean over targets; NaN when a target is constant */
  int64_t classes;       /* length of f1, side of confusion */
  double *f1;            /* (classes) F1 per class, 0 for a class that is neither present nor predicted */
  int64_t *confusion;    /* (classes, classes) rows: true class, columns: predicted class; NULL above
                            DESCENT_CONFUSION_CLASSES classes, where it would outgrow the data */
  /* since 0.3.0 */
  double balanced_accuracy; /* classifiers: mean over the classes that have rows of the share predicted right */
} descent_metrics;
/* Frees f1 and confusion and zeroes the struct. */
DESCENT_API void descent_metrics_clear(descent_metrics *metrics);

/* How predictions and evaluations are computed, in the functions that end in _with; the others use the defaults. */
typedef struct descent_predict_options {
  size_t size;
  descent_precision precision; /* default fp32, the only one of a CPU, whatever the network was trained in */
  descent_fusion fusion;       /* as descent_train_options.gpu.fusion; auto times nothing: it fuses a network that fits
                                  into a multiprocessor's shared memory */
} descent_predict_options;
DESCENT_DECLARE_OPTIONS(descent_predict_options)

/* Runs the network over the dataset. `top_k` 0 means min(5, classes). `metrics` is overwritten; release it with
 * descent_metrics_clear. ERROR_ARGUMENT when the shapes do not fit, the dataset has no target or `top_k` is beyond the
 * classes. ERROR_DATA, with row, input and value, when an input is beyond 2^64 once normalised, or the network's
 * output is not finite. */
DESCENT_API descent_status descent_evaluate(const descent_network *network, descent_device *device,
                                            const descent_dataset *dataset, int64_t top_k, descent_metrics *metrics);

/* The same as the options say. ERROR_ARGUMENT also names an option that is out of range. ERROR_UNSUPPORTED: the device
 * lacks the precision, or fusion is on and no kernel takes the network. */
DESCENT_API descent_status descent_evaluate_with(const descent_network *network, descent_device *device,
                                                 const descent_dataset *dataset, const descent_predict_options *options,
                                                 int64_t top_k, descent_metrics *metrics);

/* outputs (rows, K): the probability of class 1 (K = 1), the probabilities of the K classes, or the K predicted values
 * in the targets' own units. A target in the dataset is ignored. ERROR_ARGUMENT when the shapes do not fit. ERROR_DATA
 * as from descent_evaluate; `outputs` then holds all rows, of which some may be NaN or infinite. After any other failure
 * its contents are unspecified. */
DESCENT_API descent_status descent_predict(const descent_network *network, descent_device *device,
                                           const descent_dataset *dataset, float *outputs);

/* The same before the output function: logits (rows, K) of classifiers; for regression the network's own outputs, in
 * units of the standardised targets where the targets were standardised. */
DESCENT_API descent_status descent_predict_raw(const descent_network *network, descent_device *device,
                                               const descent_dataset *dataset, float *outputs);

/* Both as the options say, with the errors of descent_evaluate_with. */
DESCENT_API descent_status descent_predict_with(const descent_network *network, descent_device *device,
                                                const descent_dataset *dataset, const descent_predict_options *options,
                                                float *outputs);
DESCENT_API descent_status descent_predict_raw_with(const descent_network *network, descent_device *device,
                                                    const descent_dataset *dataset,
                                                    const descent_predict_options *options, float *outputs);

/* outputs as from descent_predict_with, and spread (rows, K): the standard deviation of the same values over the members
 * of an ensemble, sqrt(mean (p_k - mean p)^2), computed in double; 0 for a plain network. That of a predicted value is as
 * exact as the network's output, however large the value. */
DESCENT_API descent_status descent_predict_spread(const descent_network *network, descent_device *device,
                                                  const descent_dataset *dataset,
                                                  const descent_predict_options *options, float *outputs,
                                                  float *spread);

/* A predictor holds a compiled network on a device, for predictions of few rows at a time: the work that descent_predict
 * repeats in each call is done once, and a run allocates nothing. It takes at most `max_rows` (>= 1) rows at a time,
 * copies what it needs of `network`, and keeps `device` open until it is freed. One thread uses a predictor at a time;
 * several predictors may share a device. ERROR_ARGUMENT, ERROR_UNSUPPORTED where the device cannot run the network. */
typedef struct descent_predictor descent_predictor;
DESCENT_API descent_status descent_predictor_create(const descent_network *network, descent_device *device,
                                                    int64_t max_rows, descent_predictor **predictor);
/* The same as the options, which are copied, say; for sensitivities too, but those are never fused. Errors as from
 * descent_evaluate_with. */
DESCENT_API descent_status descent_predictor_create_with(const descent_network *network, descent_device *device,
                                                         const descent_predict_options *options, int64_t max_rows,
                                                         descent_predictor **predictor);
DESCENT_API void descent_predictor_free(descent_predictor *predictor);

/* The same values as from descent_predict and descent_predict_raw, as the predictor's options say, and the same errors: X
 * (rows, inputs) raw, with NaN where a cell is missing; outputs (rows, K); 1 <= rows <= max_rows. X is read during the
 * call only. A row's values do not depend on the rows beside it beyond rounding. */
DESCENT_API descent_status descent_predictor_run(descent_predictor *predictor, const float *X, int64_t rows,
                                                 float *outputs);
DESCENT_API descent_status descent_predictor_run_raw(descent_predictor *predictor, const float *X, int64_t rows,
                                                     float *outputs);

/* The same on arrays: X (rows, inputs), outputs (rows, K) of a float dtype. Only the first call that converts X, and the
 * first that converts outputs, allocate. */
DESCENT_API descent_status descent_predictor_run_arrays(descent_predictor *predictor, const descent_array *X,
                                                        const descent_array *outputs);
DESCENT_API descent_status descent_predictor_run_raw_arrays(descent_predictor *predictor, const descent_array *X,
                                                            const descent_array *outputs);

/* The same for a dataset of any number of rows, which is used during the call only: outputs (dataset rows, K). For data
 * that come in blocks, as from descent_dataset_read_blocks. */
DESCENT_API descent_status descent_predictor_run_dataset(descent_predictor *predictor, const descent_dataset *dataset,
                                                         float *outputs);
DESCENT_API descent_status descent_predictor_run_raw_dataset(descent_predictor *predictor,
                                                             const descent_dataset *dataset, float *outputs);

/* Sensitivities: dX (rows, inputs) = sum over the outputs of dOutputs (rows, K) times d outputs / dX, for the raw outputs
 * of descent_predict_raw, per unit of the raw inputs; 0 where a cell is missing. With 1 for one output and 0 for the
 * others it is that output's gradient. 1 <= rows <= max_rows. The first call, and the first after a refresh, compiles
 * what it needs. ERROR_DATA, with row, input and value, for an input beyond 2^64 once normalised; ERROR_ARGUMENT for a
 * value of dOutputs that is not finite. On arrays the same, dX of a float dtype. */
DESCENT_API descent_status descent_predictor_input_gradient(descent_predictor *predictor, const float *X,
                                                            const float *dOutputs, int64_t rows, float *dX);

DESCENT_API descent_status descent_predictor_input_gradient_arrays(descent_predictor *predictor, const descent_array *X,
                                                                   const descent_array *dOutputs,
                                                                   const descent_array *dX);

/* Takes over the parameters, preprocessing and names of `network`, as after more training. ERROR_ARGUMENT, and no change,
 * unless it has the same inputs, widths, activations, loss and number of members. After ERROR_DEVICE the parameters are
 * unspecified. */
DESCENT_API descent_status descent_predictor_refresh(descent_predictor *predictor, const descent_network *network);

/* ---- training --------------------------------------------------------------------------------------------------- */

/* Statistics of a layer at the last full batch of an epoch: they show vanishing and exploding gradients. */
typedef struct descent_layer_health {
  double gradient_norm;   /* || dJ/dW, dJ/db ||_2 before clipping */
  double update_ratio;    /* || change of W, b ||_2 / || W, b ||_2 */
  double activation_mean; /* over the batch's rows and the layer's units, after activation and dropout */
  double activation_std;
  double dead_fraction; /* share of hidden units with |g'| below 1e-6 for every row of the batch */
} descent_layer_health;

typedef struct descent_step_info {
  int64_t epoch, step;  /* from 1; step counts over the whole training */
  int64_t rows;         /* of this batch */
  double loss;          /* J of this batch, before the update */
  double gradient_norm; /* of the whole network, before clipping */
  double learning_rate;
} descent_step_info;

typedef struct descent_trainer descent_trainer;

typedef struct descent_epoch_info {
  int64_t epoch, epochs;             /* from 1; the most there will be */
  int64_t step;                      /* steps done so far */
  double train_loss;                 /* weighted mean of the steps' losses */
  const descent_metrics *validation; /* NULL without validation data */
  double learning_rate;              /* of the last step */
  double rows_per_second;            /* training only */
  double seconds;                    /* since training began */
  bool best;                         /* the validation (without it: training) loss improved by more than min_delta */
  int32_t layers;
  const descent_layer_health *health; /* (layers) */
  const char *warning;                /* one line when gradients vanish or explode or units die; "" otherwise */
  const char *placement;              /* where a GPU keeps the data, with sizes; what computes several layers; or "" */
  const descent_trainer *trainer;     /* whose weights descent_trainer_get_layer gives, during the call */
} descent_epoch_info;

/* The reply of descent_train_options.callbacks.on_pause. */
typedef enum descent_request {
  DESCENT_CONTINUE,
  DESCENT_SAVE, /* write a checkpoint and continue */
  DESCENT_STOP  /* end the training here, as a success, with a last checkpoint */
} descent_request;

typedef enum descent_checkpoint_event {
  DESCENT_CHECKPOINT_STARTED,     /* the training starts at its first step; checkpoints can be written */
  DESCENT_CHECKPOINT_DAMAGED,     /* one was skipped: message says why */
  DESCENT_CHECKPOINT_RESUMED,     /* the training continues from it; message, if not "", says that it was computed with
                                    other arithmetic (kernels of the BLAS, processor, GPU), so that the last bits of the
                                    results will differ from those of an uninterrupted training */
  DESCENT_CHECKPOINT_SAVED,       /* it is complete and on disk */
  DESCENT_CHECKPOINT_FAILED,      /* it could not be written: message says why; the training continues */
  DESCENT_CHECKPOINT_ROLLED_BACK, /* after the divergence in message, the training continues from it */
  DESCENT_CHECKPOINT_UNLOCKED     /* the folder's file system has no locks, so a second training would not be refused */
} descent_checkpoint_event;

typedef struct descent_checkpoint_info {
  descent_checkpoint_event event;
  const char *path;     /* of its file; the folder where the training starts */
  int64_t step, epochs; /* completed at it: steps in all, whole epochs with their validation */
  double rate_factor;   /* of every learning rate from here on: 1 until a rollback */
  const char *message;  /* one line, or "" */
} descent_checkpoint_info;

/* A loss of the caller's, for descent_fit. From the raw outputs (rows, K) that descent_predict_raw gives, the targets y
 * and the weights (rows) it writes dJ/d outputs to dOutputs (rows, K) and returns J, the mean loss of the rows: of a loss
 * L per example, J = sum w L / sum w and dOutputs = w / sum w dL/d outputs, 0 where sum w is 0. For classifiers y is
 * (rows) class indices, for regression (rows, K) in units of the standardised targets where the targets are
 * standardised. The arrays are valid during the call. The pointer is descent_train_options.callbacks.user. */
typedef double descent_loss_function(void *user, const float *outputs, const float *y, const float *weights,
                                     int64_t rows, int64_t K, float *dOutputs);

/* In texts an option has the name of its member: in error texts (with its group where the name alone says too little:
 * schedule minimum, checkpoint seconds), in checkpoint.resume_with and, with hyphens, as an option of the command.
 * There the two `kind`s are called optimizer and schedule, --schedule gives the whole group, --checkpoint,
 * --checkpoint-every, --keep-every and --on-divergence give that of checkpoints, --class-weights includes
 * balance_classes, and autotune is negated. */
typedef struct descent_train_options {
  size_t size;
  int64_t epochs;              /* >= 0; 0 leaves the parameters as they are */
  int64_t batch_size;          /* rows per step; 0: all rows (full batch) */
  uint64_t seed;               /* of dropout, and of shuffles unless shuffle_seed is set */
  double dropout;              /* share of hidden activations zeroed in training (inverted dropout); [0, 1) */
  double label_smoothing;      /* s of y (1 - s) + s / K; classifiers; [0, 1) */
  const double *class_weights; /* (classes) > 0, or NULL; multiply the examples' weights in training; borrowed for the
                                  call that takes the options */
  descent_precision precision;
  bool balance_classes; /* class weight = rows / (classes * rows of the class); not with class_weights */
  bool autotune;        /* GPU: time the algorithms of each matrix product once and remember the fastest;
                           false: the first that cuBLASLt proposes */

  struct {
    descent_optimizer kind;
    bool nesterov;        /* sgd; needs momentum > 0 */
    double learning_rate; /* > 0 */
    double momentum;      /* sgd, rmsprop, lars; [0, 1) */
    double beta1, beta2;  /* adam, adamw, lamb: decay rates of the moment estimates; [0, 1) */
    double rho;           /* rmsprop: decay rate of the squared-gradient average; [0, 1) */
    double epsilon;       /* rmsprop, adam, adamw, lamb: added to the denominator; > 0 */
    double weight_decay;  /* decoupled: w -= learning_rate * weight_decay * w; all parameters; >= 0. lars and lamb add
                             weight_decay * w to what the trust ratio multiplies; of W only */
    double l2;            /* coupled: adds l2 * w to the gradient, as PyTorch's weight_decay; all parameters; >= 0 */
    double clip_norm;     /* scales the gradient to at most this global 2-norm (PyTorch's clip_grad_norm_); 0: off */
    double trust_coefficient; /* lars: the trust ratio is this times |W| / (|dW| + weight_decay |W|); > 0 */
    uint64_t reserved[5];
  } optimizer;

  struct {
    descent_schedule kind;
    int64_t every;        /* step: epochs between two factors; plateau: epochs without improvement before one */
    double gamma;         /* step, exponential, plateau: factor in (0, 1] */
    double minimum;       /* cosine, polynomial, plateau: the smallest learning rate; >= 0 */
    int64_t warmup_steps; /* linear warm-up: learning_rate * t / warmup_steps at step t; 0: none */
    double warmup_epochs; /* the same in epochs, of which it may be a fraction, rounded to whole steps; not with
                             warmup_steps, not for steps by hand; 0: none */
    double power;         /* polynomial: minimum + (learning_rate - minimum) * (share of the steps left)^power, over the
                             steps after the warm-up; > 0 */
    uint64_t reserved[1];
  } schedule;

  /* On the validation loss, without validation data on the training loss. */
  struct {
    int64_t patience;  /* stop after this many epochs without improvement; 0: never */
    double min_delta;  /* an improvement is a loss more than this below the best so far; >= 0 */
    bool restore_best; /* with validation data: end with the weights of the best epoch */
    uint64_t reserved[5];
  } early_stopping;

  /* descent_fit only. A checkpoint is a file in `folder`, written as a whole or not at all, with the complete state of
   * the training: on the same build and processor an interrupted and resumed training ends with the same bits as an
   * uninterrupted one; on another processor or BLAS the RESUMED event says so. It is also a model file, of the weights
   * at its step. One is written before the first step, after the last, when the training is stopped, and in between as
   * set below, by a separate thread while the training continues; it takes at most four times the memory of the
   * parameters. Other files in the folder are synced before each, so that a log kept there is never older than the
   * checkpoint. Symbolic links in it are not followed when it is written to. (After ERROR_DIVERGED the network of a
   * resumed training may hold weights of a later step than that of an uninterrupted one.) */
  struct {
    const char *folder;      /* created if missing, used by one training at a time; NULL: no checkpoints */
    const char *resume;      /* continue from the newest undamaged checkpoint in this folder; if it has none, or does
                                not exist, start at the first step. NULL: start, and refuse a `folder` that has some */
    const char *resume_with; /* comma-separated names of what may differ from the resumed training: members of this
                                struct, validation (the data), device, library (the version), loss, keep_best and keep_every
                                (without them checkpoints that were to stay are removed). Never network, data,
                                optimizer, batch_size. Other differences are refused and listed. May be NULL */
    int64_t steps;           /* one every so many steps; 0: not by steps */
    int64_t epochs;          /* one every so many epochs; 0: not by epochs */
    double seconds;          /* one when so many seconds have passed since the last; default 60, also beside `steps` and
                                `epochs`; 0: not by time */
    int64_t keep;            /* the newest so many stay, >= 1 */
    int64_t rollbacks;       /* after a divergence, return to the newest checkpoint at most so many times; 0: end */
    double rollback_factor;  /* and multiply every learning rate from there on by this; in (0, 1) */
    int64_t keep_every_steps;  /* one is also written at every multiple of so many steps, and stays; 0: none */
    int64_t keep_every_epochs; /* the same after every multiple of so many epochs; 0: none */
    bool keep_best; /* one is written after each epoch that improves the validation loss; the last of these stays */
    uint64_t reserved[4];
  } checkpoint;

  /* Each may be NULL and gets `user` first. The structs are valid during the call. */
  struct {
    /* After each step or epoch; a non-zero return ends the training there, as a success. on_step makes the engine
     * report every step and so costs speed. */
    int (*on_step)(void *user, const descent_step_info *info);
    int (*on_epoch)(void *user, const descent_epoch_info *info);
    /* Between steps, about every 0.1 seconds, or after each step that takes longer, and between blocks of the
     * validation rows (at most 4,096) while those are measured: a stop there leaves the epoch unfinished; resuming
     * completes it. Of members of descent_fit_members: after the steps of a turn, in which at least one member runs for
     * each thread, and after a block of each of these while validation rows are measured, also while other members do
     * that; not from the end of a member's steps in an epoch until all have ended theirs. */
    descent_request (*on_pause)(void *user);
    void (*on_checkpoint)(void *user, const descent_checkpoint_info *info); /* on the thread of descent_fit */
    void *user;
    /* Replaces the network's loss in training and validation, so that early stopping, schedules and the best weights
     * follow it: on any device, at the cost of a copy of the outputs to the host for each step. The network's own loss
     * still decides the task and what descent_predict returns. Class weights are part of the weights; label_smoothing is
     * refused. A J or dOutputs that is not finite is a divergence. A checkpoint belongs to a training with a loss of the
     * caller's or to one without, and does not know which function it was. */
    descent_loss_function *loss;
    uint64_t reserved[2];
  } callbacks;

  /* GPU. A device that computes layer by layer, as the CPU does, takes every value but on. */
  struct {
    descent_fusion fusion; /* on: ERROR_UNSUPPORTED, with the reason, where no kernel takes the network */
    uint64_t reserved[3];
  } gpu;

  /* descent_fit, descent_verify and descent_bench. The rows of a step are cut into `micro_batches` contiguous parts of
   * almost equal size. Their gradients are computed one after another, so a step needs the memory of one part, and added in
   * a binary tree over the parts. With R ranks each computes the parts of one subtree, and the result has the same bits for
   * every R, with equal arithmetic; see docs/distributed.md. Every rank calls descent_fit with the same network, data and
   * options, which are compared first: ERROR_ARGUMENT names rank and difference. A stop or a save that a callback asks for
   * on one rank is done by all, at the same step. Rank 0 alone uses the checkpoints' folder and calls on_checkpoint.
   * ERROR_DEVICE where a rank does not answer, ERROR_INTERNAL where the weights of one come to differ. */
  struct {
    int64_t micro_batches;              /* M >= 1; 0: as many as there are ranks. R > 1 ranks take R 2^k */
    descent_communicator *communicator; /* connects the ranks; borrowed until the call returns; NULL: one rank */
    uint64_t reserved[2];
  } ranks;

  uint64_t shuffle_seed; /* of shuffles; 0: `seed`. Members with the same one see their rows in the same order */
} descent_train_options;
DESCENT_DECLARE_OPTIONS(descent_train_options)

/* Sets an option by its name in texts: "weight_decay", "schedule gamma", "optimizer", or by its path in the struct,
 * "optimizer.weight_decay", "schedule.kind"; - and _ are the same. A decimal number, with a point; yes or no, true or false,
 * 1 or 0; the name of a term; a text is kept as the pointer `value`, borrowed until the call that takes the options.
 * class_weights, callbacks and the communicator cannot be set by name. ERROR_ARGUMENT, with the options unchanged, for an
 * unknown name (with the list of names), a member beyond options->size, a value that is not of the option's kind or out of
 * its range. Ranges that depend on other options are checked by descent_train_options_check. */
DESCENT_API descent_status descent_train_options_set(descent_train_options *options, const char *name,
                                                     const char *value);

/* Checks that the options are in their ranges, fit the network and are supported by the device. ERROR_ARGUMENT names
 * the option and its value, ERROR_UNSUPPORTED what the device lacks. Every function that trains checks this. Whether a
 * kernel takes the network, for gpu.fusion, shows where a training begins. */
DESCENT_API descent_status descent_train_options_check(const descent_train_options *options,
                                                       const descent_network *network, const descent_device *device);

typedef enum descent_stop {
  DESCENT_STOP_EPOCHS,  /* all epochs done */
  DESCENT_STOP_EARLY,   /* patience ran out */
  DESCENT_STOP_CALLBACK /* on_step, on_epoch or on_pause requested it */
} descent_stop;

typedef struct descent_fit_result {
  descent_stop stop;
  int64_t epochs, steps; /* done */
  int64_t best_epoch;    /* the epoch whose weights the network now has if the best were restored; 0 if none improved */
  double best_loss;
  double train_loss;           /* of the last epoch */
  double seconds;              /* of training, including the time before it was resumed */
  int64_t checkpoint_failures; /* checkpoints that could not be written */
} descent_fit_result;

/* A trainer holds the network's parameters, optimizer state and step counter on a device. It keeps `network` and
 * `device` alive until it is freed; options are copied. `max_batch` is the most rows a step will have (0: the
 * options' batch_size, which then must not be 0). A trainer that is stepped by hand knows neither epochs nor class
 * counts, so schedules other than constant, and balance_classes, are refused; so are micro-batches, a communicator, and
 * callbacks.loss, for which descent_trainer_backward stands. ERROR_ARGUMENT names the option. */
DESCENT_API descent_status descent_trainer_create(descent_network *network, descent_device *device,
                                                  const descent_train_options *options, int64_t max_batch,
                                                  descent_trainer **trainer);
DESCENT_API void descent_trainer_free(descent_trainer *trainer);

/* One step on the caller's rows: X (rows, inputs) and y (rows, targets), both raw as in a dataset, weights (rows) or
 * NULL; 1 <= rows <= max_batch; all are read during the call only. `info` may be NULL. ERROR_ARGUMENT for a number of
 * rows or a class out of range and for a weight that is not finite or negative; ERROR_DIVERGED when the loss or the
 * gradient is not finite, as where X or a regression target is not: the weights are then those before the step. An input
 * beyond 2^64 once normalised, which descent_fit refuses, is used as it is. descent_trainer_sync updates the network's own
 * copy. */
DESCENT_API descent_status descent_trainer_step(descent_trainer *trainer, const float *X, const float *y,
                                                const float *weights, int64_t rows, descent_step_info *info);

/* The same on arrays: X (rows, inputs), y (rows, targets), weights (rows, 1) or NULL. */
DESCENT_API descent_status descent_trainer_step_arrays(descent_trainer *trainer, const descent_array *X,
                                                       const descent_array *y, const descent_array *weights,
                                                       descent_step_info *info);

/* A step in parts, for optimizers and losses of the caller's. Every array is read or written during the call only; a
 * layer's W, b, dW and db are as in descent_network_get_layer, any of them may be NULL.
 *
 *   descent_trainer_gradient, descent_trainer_update                             the two halves of descent_trainer_step
 *   descent_trainer_gradient, _get_gradient, _get_layer, _set_layer              an optimizer of the caller's
 *   descent_trainer_forward, descent_trainer_backward, descent_trainer_update    a loss of the caller's */

/* The first half of descent_trainer_step, with its arguments and errors: J and its gradients, before clipping and without
 * the l2 term. No parameter changes, and the step is not counted yet. */
DESCENT_API descent_status descent_trainer_gradient(descent_trainer *trainer, const float *X, const float *y,
                                                    const float *weights, int64_t rows, descent_step_info *info);

/* Copies a layer's gradients out, as the last step, gradient or backward left them, or in, for an update. ERROR_ARGUMENT:
 * no gradients have been computed; set: a value that is not finite. */
DESCENT_API descent_status descent_trainer_get_gradient(const descent_trainer *trainer, int32_t layer, float *dW,
                                                        float *db);
DESCENT_API descent_status descent_trainer_set_gradient(descent_trainer *trainer, int32_t layer, const float *dW,
                                                        const float *db);

/* The second half: clipping, l2, weight decay and the optimizer on the gradients, and the step is counted. After
 * descent_trainer_gradient the parameters have the bits that descent_trainer_step gives. In `info` (may be NULL) rows are
 * those that the gradients come from, and loss is NaN unless descent_trainer_gradient gave all of them. ERROR_ARGUMENT:
 * there are no gradients that an update has not used; ERROR_DIVERGED: they are not finite; the weights are then those
 * before. */
DESCENT_API descent_status descent_trainer_update(descent_trainer *trainer, descent_step_info *info);

/* outputs (rows, K) for the rows X (rows, inputs) as the coming step has them, with its dropout; without dropout what
 * descent_predict_raw gives, up to the options' precision, finite or not. 1 <= rows <= max_batch. At the first call the trainer allocates what
 * descent_trainer_backward needs. */
DESCENT_API descent_status descent_trainer_forward(descent_trainer *trainer, const float *X, int64_t rows,
                                                   float *outputs);

/* From dOutputs (rows, K), dJ/d outputs of the rows of the last forward, the gradients of all parameters. `accumulate`
 * adds them to those that no update has used yet, so that several passes make one step. dX (rows, inputs), unless NULL,
 * receives dJ/dX per unit of the raw inputs, 0 where a cell is missing. May be called repeatedly after one forward.
 * ERROR_ARGUMENT: a value of dOutputs that is not finite; no forward since the trainer was created, or since the
 * parameters changed or other rows were computed. */
DESCENT_API descent_status descent_trainer_backward(descent_trainer *trainer, const float *dOutputs, float *dX,
                                                    bool accumulate);

/* The parts on arrays: X (rows, inputs), y (rows, targets), weights (rows, 1) or NULL; outputs and dOutputs (rows, K), dX
 * (rows, inputs) or NULL, where outputs and dX are of a float dtype. */
DESCENT_API descent_status descent_trainer_gradient_arrays(descent_trainer *trainer, const descent_array *X,
                                                           const descent_array *y, const descent_array *weights,
                                                           descent_step_info *info);
DESCENT_API descent_status descent_trainer_forward_arrays(descent_trainer *trainer, const descent_array *X,
                                                          const descent_array *outputs);
DESCENT_API descent_status descent_trainer_backward_arrays(descent_trainer *trainer, const descent_array *dOutputs,
                                                           const descent_array *dX, bool accumulate);

/* Replaces a layer's parameters on the device; the network has them after descent_trainer_sync. ERROR_ARGUMENT for a value
 * that is not finite. */
DESCENT_API descent_status descent_trainer_set_layer(descent_trainer *trainer, int32_t layer, const float *W,
                                                     const float *b);

/* The learning rate of the steps from here on (before the warm-up); ERROR_ARGUMENT unless it is above 0. */
DESCENT_API descent_status descent_trainer_set_learning_rate(descent_trainer *trainer, double learning_rate);

/* The number of steps done so far, 0 .. 2^48 - 1: the coming step is the next one. It selects the dropout masks, and
 * counts in the warm-up and in Adam's corrections. Steps and updates count it; a program whose own optimizer sets layers
 * counts here, or all of its steps have the same masks. */
DESCENT_API descent_status descent_trainer_set_steps(descent_trainer *trainer, int64_t steps);

/* Copies the parameters from the device into the network. ERROR_DIVERGED when one of them is not finite, ERROR_DEVICE
 * when the copy fails; the network is then unchanged. */
DESCENT_API descent_status descent_trainer_sync(descent_trainer *trainer);

/* Copies a layer's parameters as they are on the device now, finite or not, without touching the network: layer, W and
 * b as for descent_network_get_layer. */
DESCENT_API descent_status descent_trainer_get_layer(const descent_trainer *trainer, int32_t layer, float *W, float *b);

/* Measures the parameters as they are on the device, as descent_evaluate does with those of the network. The dataset is
 * used during the call only. */
DESCENT_API descent_status descent_trainer_evaluate(descent_trainer *trainer, const descent_dataset *dataset,
                                                    int64_t top_k, descent_metrics *metrics);

/* Saves parameters, moments, the number of steps and the learning rate, so that a training by hand continues exactly
 * where it was: restore sets those of a trainer whose network has the same shape, loss and preprocessing, and whose
 * optimizer is the same; the other options are the trainer's own. The file is a checkpoint, and a model file too;
 * restore also takes the checkpoints of descent_fit. The network's own copy stays as it was until
 * descent_trainer_sync. Save: ERROR_WRITE, and ERROR_DIVERGED when a parameter is not finite; an existing file is
 * replaced as by descent_network_save. Restore: ERROR_READ; ERROR_MODEL for a file that is no checkpoint, or damaged;
 * ERROR_ARGUMENT when network or optimizer differ; the trainer is then unchanged. */
DESCENT_API descent_status descent_trainer_save(const descent_trainer *trainer, const char *path);
DESCENT_API descent_status descent_trainer_restore(descent_trainer *trainer, const char *path);

/* Trains for the options' epochs on `training`, measuring on `validation` (may be NULL) after each, and leaves the
 * result in `network`. `result` may be NULL; it is filled after a failure too, once the training was set up (`stop`
 * then says nothing), and is otherwise unchanged. ERROR_ARGUMENT names the option, or the data set that does not fit the
 * network; ERROR_DATA a row of `validation` with an input beyond 2^64 once normalised; ERROR_UNSUPPORTED what
 * the device lacks; the network is then unchanged. ERROR_DIVERGED at the first step whose loss or gradient is not
 * finite: the error names step, layer and likely cause, and the network keeps the weights before that step (with
 * restore_best and an earlier best epoch: that epoch's). ERROR_READ when a mapped dataset file is
 * written to during the training: the network keeps the weights of the last epoch before this was detected.
 * ERROR_DEVICE when the device fails: the error names the epoch whose weights the network keeps, the best so far (with
 * restore_best and validation data), else the last; a step where the training was stopped or resumed within an epoch,
 * or the initial weights. It names none if the device failed during setup: the network is then unchanged. With
 * checkpoints also ERROR_WRITE, when the first one cannot be written or another training uses the folder;
 * ERROR_ARGUMENT, with the differences, when the checkpoint to resume from has another configuration or is of a later
 * version, and for keep_best without validation data; ERROR_MODEL when all checkpoints are damaged. ERROR_WRITE during
 * the training: the folder of checkpoints or its file `lock` was moved, removed or replaced, so that another training
 * may use it. Nothing more is written there; the network keeps the weights of the best epoch (with restore_best and
 * validation data), else those of the last step, as the error says. */
DESCENT_API descent_status descent_fit(descent_network *network, descent_device *device,
                                       const descent_dataset *training, const descent_dataset *validation,
                                       const descent_train_options *options, descent_fit_result *result);

/* ---- training many networks at once -------------------------------------------------------------------------------
 * Small networks leave a device mostly idle: an ensemble, the folds of a cross-validation or the trials of a sweep take
 * less time together than one after another. */

/* One network of many: the arguments of its descent_fit and what comes of it. Starts from descent_member_default(). The
 * pointers are borrowed for the call; members may share data and options, and each has another network. */
typedef struct descent_member {
  size_t size;
  descent_network *network;
  const descent_dataset *training, *validation; /* validation may be NULL */
  const descent_train_options *options;
  /* Set by the call: */
  descent_status status;     /* of this member's training, as descent_fit returns it */
  uint8_t unused[4];         /* 0 */
  char error[1024];          /* the text of a failure; "" without one */
  descent_fit_result result; /* as descent_fit fills it */
} descent_member;
DESCENT_DECLARE_OPTIONS(descent_member)

typedef struct descent_members_options {
  size_t size;
  /* May be NULL. Called when every member that is still training has finished an epoch, after the on_epoch of each.
   * epochs (count): of the epoch that each has just finished; NULL for a member whose training has ended. stop (count):
   * true ends the training of that member here, as a success, as its on_epoch can. Valid during the call. */
  void (*on_epoch)(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count);
  void *user;
  uint64_t reserved[4]; /* 0 */
} descent_members_options;
DESCENT_DECLARE_OPTIONS(descent_members_options)

/* The seed of member 0, 1, .. of an ensemble: `seed` itself for member 0, and for the others a hash of both,
 * below 2^53. */
DESCENT_API uint64_t descent_member_seed(uint64_t seed, int64_t member);

/* Trains `count` >= 1 members on one device. Each ends with what descent_fit gives it alone, to the bit on devices whose
 * results do not depend on timing: network, result, callbacks, checkpoints, early stopping and rollbacks are its own, and
 * shapes, data and options may differ. Members train one epoch at a time beside each other: none begins the next before
 * all have finished theirs. One that ends early, by patience, a stop or a divergence, costs nothing from then on and does
 * not disturb the others. `options` may be NULL.
 *
 * All members have the same `size`. ERROR_ARGUMENT, "member 3: " and the reason, before any training, for what descent_fit
 * refuses, for two members with the same network or checkpoint folder, for a communicator and for micro-batches.
 * ERROR_MEMORY before any training where they do not fit: the text says how many would. A later failure is that
 * member's `status`; the call returns OK if one member has succeeded, else the status of the first. */
DESCENT_API descent_status descent_fit_members(descent_device *device, descent_member *members, int64_t count,
                                               const descent_members_options *options);

/* ---- training on streams of rows --------------------------------------------------------------------------------
 * Data of any size, from anywhere: a callback produces the rows of each epoch, and a thread calls it ahead of the steps
 * while the device computes. Step k of an epoch gets the same rows independently of timing. Memory holds three blocks of
 * rows, each of one step or of 8 MB. */

/* `next` and `rewind` get `user` first. They are called from a thread of the library's, one call at a time, and ahead of
 * the steps, so also for rows that the training does not reach. They must not use the objects of the training. No call
 * happens after descent_fit_source has returned, which waits for the one in progress. */
typedef struct descent_source {
  size_t size;
  int64_t inputs, targets; /* columns of X and of y; targets is 1 unless the task is regression */
  int64_t classes;         /* K for task classes, 2 for binary; ignored for regression */
  descent_task task;       /* binary, classes or regression */
  /* false: X and y are raw; true: they are differences to the network's offsets (descent_network_input_offset), as those
   * of a source that descent_source_open has opened are. */
  bool offsets_subtracted;
  int64_t rows_per_epoch; /* an epoch ends after so many rows, and must have them. 0: unknown; it ends where `next` says
                             so, after as many steps in each epoch. Schedule cosine, batch_size 0 and keep_every_epochs
                             need a number */
  /* Fills up to `rows` (>= 1) rows: X (rows, inputs), raw, with NaN where a cell is missing; y (rows, targets); weights
   * (rows), which are 1 and may be left so. Returns how many, 0 at the end of the epoch; below 0 ends the training with
   * ERROR_READ and, if a function of the library failed in it, that error's text. How many rows it returns at a time
   * changes nothing. */
  int64_t (*next)(void *user, float *X, float *y, float *weights, int64_t rows);
  /* The rows of `epoch` (from 1) come next, in an order that depends on (epoch, seed) only; the engine does not shuffle.
   * `seed` is that of shuffles: the options' shuffle_seed, or seed where that is 0.
   * Called before each epoch, the first included. A training that resumes or rolls back within an epoch needs no row
   * before `row` (from 0), otherwise `row` is 0. Returns the row that `next` begins with, 0 .. row, of which the engine
   * skips those before `row`; below 0 ends the training with ERROR_READ. NULL: the rows come once, so epochs is 1, and
   * there is neither resuming nor rolling back. */
  int64_t (*rewind)(void *user, int64_t epoch, uint64_t seed, int64_t row);
  void *user;
  uint64_t reserved[4]; /* 0 */
} descent_source;
DESCENT_DECLARE_OPTIONS(descent_source)
#undef DESCENT_DECLARE_OPTIONS

/* descent_fit with the rows of a source, which is used during the call only: the same options, callbacks, checkpoints,
 * result and errors, and with the same rows in the same order the same bits. Besides:
 * - balance_classes is ERROR_ARGUMENT, as the source's classes are not counted.
 * - Rows are checked before their step: ERROR_DATA for a class out of range, a weight or a regression target that is not
 *   finite, a negative weight, an infinite X or one beyond 2^64 once normalised, an epoch without rows, or one of another
 *   length than rows_per_epoch or the epochs before.
 * - After this and ERROR_READ the network keeps the weights of the last step, or those of the best epoch (with
 *   restore_best and validation data); the error says which.
 * - A checkpoint records the shape of the source, not its rows: to resume with the same rows is up to the source. */
DESCENT_API descent_status descent_fit_source(descent_network *network, descent_device *device,
                                              const descent_source *source, const descent_dataset *validation,
                                              const descent_train_options *options, descent_fit_result *result);

/* A source of the rows of a file, read anew in each epoch and a block at a time, for files larger than memory: all formats
 * of descent_dataset_read, compressed or not. options->network must be set; fit its preprocessing to a sample first
 * (options->max_rows), and see options->unseen for categories that the sample lacks. Rows are shuffled within windows of
 * `window` rows, by (seed, epoch): 1 keeps the file's order, 0 takes windows of 32 MB, and one window for the whole file
 * gives the order of descent_fit. `path`, `options`, its texts and its network are borrowed, and must not change, until
 * the source is closed. rows_per_epoch is 0; a caller who knows the number of rows may set it. ERROR_ARGUMENT, also for
 * standard input, a target_file and features_only; ERROR_READ. What is wrong inside the file ends the training, with
 * ERROR_READ and the reader's text. A child of fork() can only close a source that it inherits. */
DESCENT_API descent_status descent_source_open(const char *path, const descent_dataset_options *options, int64_t window,
                                               descent_source *source);
/* Closes what descent_source_open has opened and zeroes the struct. Does nothing for NULL and for a zeroed struct. */
DESCENT_API void descent_source_close(descent_source *source);

/* ---- checking and measuring the engine -------------------------------------------------------------------------- */

typedef struct descent_verify_row {
  const char *operation; /* e.g. "dense_forward layer 2" */
  int64_t values;        /* compared */
  double largest_error;  /* largest |candidate - reference| over all values */
  double bound;          /* the bound of that value; derived from dot length and unit round-off */
  double error_to_bound; /* largest |candidate - reference| / bound over all values; NaN fails */
  bool pass;
} descent_verify_row;

/* Runs every operation of the network's training, evaluation and prediction on both devices from the same inputs and
 * compares all values written: `steps` training steps on `rows` synthetic rows (drawn from the options' seed, in
 * batches of options->batch_size with the remainder as the last one; 0: all rows), one more that also computes the
 * layer statistics, then the backward pass of a caller's loss, evaluation and prediction. `on_row` (may be NULL) gets
 * one comparison per operation, the worst over its steps, valid during the call; `*passed`: all passed. `rows` and
 * `steps` are at least 1. A value that fails is replaced by the exact one before the next operation, so that each
 * operation is checked alone. Where the candidate computes several operations in one kernel, the gradients of a step,
 * an evaluation and a prediction are also run as a whole, and rows such as "fused: gradients layer 2" compare their
 * results; there `largest_error` is the distance from the middle of the range of values that roundings in all of the
 * operations allow. Rows such as "fused train: parameters" compare what two training steps leave with what the same
 * steps in parts do, gradients and then update: all bits must be equal, and the bound is 0. The bounds are those of
 * options->precision against exact arithmetic, and come from the reference device whatever the reference: with another
 * reference a value may differ by two bounds. ERROR_DIVERGED when the exact values themselves leave the range of
 * float32, ERROR_UNSUPPORTED when one of the devices lacks the precision. The network and files are unchanged.
 *
 * With options->ranks a step is run in M micro-batches, at most as many as its rows: each operation on the parts of this
 * rank, "combine", which adds their gradients, and the update of the whole step. Backward, evaluation and prediction take
 * blocks of the rows of the largest part. "fused: .." rows are then those of one part alone, and "fused train: .." compare
 * what the parts of a step leave when they are run in one call and one by one. With several ranks the call is collective:
 * all make it with the same network, options, rows and steps (otherwise ERROR_ARGUMENT, with rank and difference), and each
 * verifies its device. "allreduce" compares the sums on each rank with the exact sum over all ranks; they must also have the
 * same bits on all (otherwise error_to_bound is infinite or NaN). All ranks get the same rows, which count the values of
 * all and show the worst, and the same `passed`. An error of one ends the call on all with its status and "rank 2 (node7): "
 * before its text, which is left out where all have the same error, but ERROR_DEVICE after the time limit of the
 * communicator where a rank is lost or its device fails within the sum. The device reference is one rank: as the candidate
 * of several it is ERROR_UNSUPPORTED. */
DESCENT_API descent_status descent_verify(const descent_network *network, descent_device *candidate,
                                          descent_device *reference, const descent_train_options *options, int64_t rows,
                                          int64_t steps, void (*on_row)(void *user, const descent_verify_row *row),
                                          void *user, bool *passed);

typedef struct descent_bench_row {
  const char *operation; /* "layers 1 to 5": several that one kernel computes; "step", "prediction": the whole */
  double seconds;        /* median per step */
  double flops, bytes;   /* counted: least work of the operation; of a kernel, without what stays inside it */
  double floor_seconds;  /* max(flops / peak flops, bytes / peak bandwidth, link_bytes / link bandwidth) */
  double gemm_seconds;   /* the operation's matrix product alone, or all of it if one kernel does it; 0: no product */
  const char *path;      /* GPU: how it is computed, "cublaslt+epilogue", or exchanged, "nccl"; "": in the only way */
  double link_bytes;     /* sent through the link, and as many received; allreduce only */
} descent_bench_row;

typedef struct descent_bench_result {
  double peak_flops;     /* per second, measured: a large matrix product on this device */
  double peak_bandwidth; /* bytes per second, measured: a large copy */
  double step_seconds;   /* median over repetitions of the whole step */
  double step_seconds_min, step_seconds_max;
  double gemm_seconds;   /* all matrix products of a step, alone */
  int64_t memory;        /* bytes held on the device by the plan */
  double link_bandwidth; /* bytes per second that each rank sends while all do, measured: large messages; 0: one rank */
} descent_bench_result;

/* Times the real training plan of `network` on synthetic data at options->batch_size (>= 1), for about `seconds` (> 0)
 * in all. `on_row` (may be NULL) gets each operation in the order of the step, then the whole step; the row and its
 * text are valid during the call. A step in micro-batches has the operations of one micro-batch, whose figures are sums
 * over those of this rank, then combine and allreduce where there are any, and the update. ERROR_ARGUMENT;
 * ERROR_DIVERGED when the learning rate is too high to time a step. The network and files are unchanged.
 * With options->ranks.communicator: collective, with the same arguments on every rank; one that fails ends all. Rank 0
 * decides by its clock how often all of them repeat each measurement. Each rank is given its times, for the whole step
 * and for what it computes of it; link_bandwidth is the same on all. */
DESCENT_API descent_status descent_bench(const descent_network *network, descent_device *device,
                                         const descent_train_options *options, double seconds,
                                         void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                         descent_bench_result *result);

/* The same for a prediction of `rows` rows as descent_predict computes it: the figures of a step are those of one such
 * prediction, whose rows are already bound and whose result stays on the device. Its floor is that of one
 * kernel: rows and weights are read once, predictions are written once. ERROR_ARGUMENT also for more rows than the
 * device predicts at a time; the text has that number. */
DESCENT_API descent_status descent_bench_predict(const descent_network *network, descent_device *device, int64_t rows,
                                                 double seconds,
                                                 void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                                 descent_bench_result *result);
/* And as descent_predict_with computes it. */
DESCENT_API descent_status descent_bench_predict_with(const descent_network *network, descent_device *device,
                                                      const descent_predict_options *options, int64_t rows,
                                                      double seconds,
                                                      void (*on_row)(void *user, const descent_bench_row *row),
                                                      void *user, descent_bench_result *result);

#ifdef __cplusplus
}
#endif
#endif
