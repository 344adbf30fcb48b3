/* TFRecord, the framing of TensorBoard's event files. Per record, little-endian
 * (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked CRC of the length, data, uint32 masked CRC of
 * the data. */
#ifndef DESCENT_REPORT_TFRECORD_H
#define DESCENT_REPORT_TFRECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected, initial value and final xor 0xFFFFFFFF (RFC 3720, B.4). */
uint32_t tfrecord_crc32c(const void *data, size_t length);
/* The masked form: rotated right by 15 bits, plus 0xA282EAD8 (tensorflow/core/lib/hash/crc32c.h). */
uint32_t tfrecord_mask(uint32_t crc);

/* Appends one record; false with errno set. */
bool tfrecord_write(FILE *file, const void *data, size_t length);

#endif
