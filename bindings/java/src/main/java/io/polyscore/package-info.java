/**
 * Scores one request against many candidate ads, inside the JVM's process, on the caller's thread.
 *
 * <p>A {@link io.polyscore.Model} is opened once and shared by all threads. Each thread has a {@link io.polyscore.Scorer},
 * {@link io.polyscore.Columns} to say what the request and the candidates are, and {@link io.polyscore.Scores} to find the
 * answer in. {@code prepare} takes a request; {@code score}, as often as wanted, takes candidates. Neither allocates on the
 * Java heap, nor natively, once warm.
 *
 * <p>Every failure is a {@link io.polyscore.PolyscoreException}, unchecked, with the code of the C ABI and the name of the
 * guilty thing.
 */
package io.polyscore;
