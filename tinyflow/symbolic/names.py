"""Names of TensorFlow 1 that programs use: so that one which is not built says so, rather than looking misspelt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

USED = """
    ConfigProto FIFOQueue FixedLenFeature Graph GraphKeys.ASSET_FILEPATHS GraphKeys.GLOBAL_VARIABLES
    GraphKeys.TRAINABLE_VARIABLES GraphKeys.UPDATE_OPS InteractiveSession NodeDef OptimizerOptions
    RandomShuffleQueue RunMetadata RunOptions RunOptions.FULL_TRACE Session SparseTensor SparseTensorValue Summary
    TFRecordReader Tensor TextLineReader Variable WholeFileReader abs add add_n add_to_collection all_variables
    app.flags.DEFINE_boolean app.flags.DEFINE_float app.flags.DEFINE_integer app.flags.DEFINE_string
    app.flags.FLAGS app.run arg_max arg_min argmax argmin assert_less_equal assert_positive assign bool cast
    cholesky clip_by_global_norm clip_by_norm clip_by_value compat.as_bytes concat cond constant
    constant_initializer container
    contrib.boosted_trees.estimator_batch.estimator.GradientBoostedDecisionTreeClassifier
    contrib.boosted_trees.proto.learner_pb2 contrib.boosted_trees.proto.learner_pb2.LearnerConfig
    contrib.factorization.KMeans contrib.framework.arg_scope contrib.framework.list_variables
    contrib.framework.load_checkpoint contrib.framework.nest.assert_same_structure
    contrib.framework.nest.is_sequence contrib.framework.nest.map_structure contrib.layers.batch_norm
    contrib.layers.conv2d contrib.layers.conv2d_transpose contrib.layers.create_feature_spec_for_parsing
    contrib.layers.dropout contrib.layers.flatten contrib.layers.fully_connected contrib.layers.l2_regularizer
    contrib.layers.layer_norm contrib.layers.linear contrib.layers.optimize_loss
    contrib.layers.python.layers.batch_norm contrib.layers.python.layers.layer_norm
    contrib.layers.real_valued_column contrib.layers.safe_embedding_lookup_sparse
    contrib.layers.sparse_column_with_hash_bucket contrib.layers.xavier_initializer
    contrib.layers.xavier_initializer_conv2d contrib.learn.Experiment contrib.learn.LinearClassifier
    contrib.learn.ModeKeys contrib.learn.RunConfig contrib.learn.datasets.load_dataset
    contrib.learn.learn_runner.run contrib.learn.preprocessing.VocabularyProcessor
    contrib.learn.python.learn.datasets contrib.learn.python.learn.utils
    contrib.learn.utils.saved_model_export_utils.make_export_strategy contrib.legacy_seq2seq.rnn_decoder
    contrib.legacy_seq2seq.sequence_loss_by_example contrib.metrics.accuracy contrib.opt.ScipyOptimizerInterface
    contrib.rnn.AttentionCellWrapper contrib.rnn.BasicLSTMCell contrib.rnn.BasicRNNCell contrib.rnn.DeviceWrapper
    contrib.rnn.DropoutWrapper contrib.rnn.GRUCell contrib.rnn.LSTMCell contrib.rnn.LSTMStateTuple
    contrib.rnn.LayerNormBasicLSTMCell contrib.rnn.MultiRNNCell contrib.rnn.NASCell contrib.rnn.RNNCell
    contrib.rnn.ResidualWrapper contrib.rnn.static_bidirectional_rnn contrib.rnn.static_rnn
    contrib.seq2seq.AttentionWrapper contrib.seq2seq.AttentionWrapperState contrib.seq2seq.BahdanauAttention
    contrib.seq2seq.BasicDecoder contrib.seq2seq.BeamSearchDecoder contrib.seq2seq.GreedyEmbeddingHelper
    contrib.seq2seq.LuongAttention contrib.seq2seq.SampleEmbeddingHelper contrib.seq2seq.TrainingHelper
    contrib.seq2seq.attention_decoder_fn_inference contrib.seq2seq.attention_decoder_fn_train
    contrib.seq2seq.dynamic_decode contrib.seq2seq.dynamic_rnn_decoder contrib.seq2seq.prepare_attention
    contrib.seq2seq.sequence_loss contrib.seq2seq.simple_decoder_fn_inference
    contrib.seq2seq.simple_decoder_fn_train contrib.seq2seq.tile_batch contrib.slim.arg_scope
    contrib.slim.batch_norm contrib.slim.conv2d contrib.slim.get_model_variables
    contrib.slim.model_analyzer.analyze_vars contrib.slim.separable_conv2d
    contrib.slim.utils.convert_collection_to_dict contrib.tensor_forest.python.tensor_forest.ForestHParams
    contrib.tensor_forest.python.tensor_forest.RandomForestGraphs
    contrib.tensorboard.plugins.projector.ProjectorConfig
    contrib.tensorboard.plugins.projector.visualize_embeddings contrib.tpu.CrossShardOptimizer
    contrib.training.HParams control_dependencies convert_to_tensor cos cross data.Dataset.from_tensor_slices
    data.TextLineDataset decode_base64 decode_csv decode_raw device diag div divide edit_distance einsum equal
    errors.NotFoundError errors.OutOfRangeError estimator.DNNClassifier estimator.DNNRegressor estimator.Estimator
    estimator.EstimatorSpec estimator.ModeKeys estimator.RunConfig estimator.export.PredictOutput
    estimator.export.ServingInputReceiver estimator.inputs.numpy_input_fn estimator.inputs.pandas_input_fn
    examples.tutorials.mnist.input_data.read_data_sets exp expand_dims feature_column.numeric_column fill
    fixed_size_partitioner flags.DEFINE_boolean flags.DEFINE_float flags.DEFINE_integer flags.DEFINE_string
    flags.FLAGS float32 float64 floor floor_div floordiv gather get_collection get_default_graph
    get_variable get_variable_scope gfile.DeleteRecursively gfile.Exists gfile.GFile gfile.Glob gfile.MakeDirs
    gfile.Remove gfile.Rename global_norm global_variables global_variables_initializer gradients greater group
    identity image.decode_image image.decode_jpeg image.decode_png image.resize_images image.rgb_to_grayscale
    image.rot90 initialize_all_variables int16 int32 int64 keras.datasets.mnist keras.initializers.glorot_normal
    keras.initializers.glorot_uniform layers.Dense layers.average_pooling2d layers.batch_normalization
    layers.conv2d layers.conv2d_transpose layers.dense layers.dropout layers.flatten layers.max_pooling2d less
    linspace local_variables_initializer log logging.ERROR logging.INFO logging.set_verbosity logical_and
    losses.mean_squared_error losses.softmax_cross_entropy losses.sparse_softmax_cross_entropy map_fn matmul
    matrix_determinant matrix_inverse matrix_solve maximum metrics.accuracy minimum mod multinomial multiply
    name_scope negative nn.avg_pool nn.batch_norm_with_global_normalization nn.batch_normalization nn.bias_add
    nn.bidirectional_dynamic_rnn nn.conv2d nn.conv2d_transpose nn.dropout nn.dynamic_rnn nn.elu
    nn.embedding_lookup nn.in_top_k nn.l2_loss nn.l2_normalize nn.local_response_normalization nn.max_pool
    nn.moments nn.nce_loss nn.relu nn.relu6 nn.rnn_cell.BasicLSTMCell nn.rnn_cell.BasicRNNCell
    nn.rnn_cell.DropoutWrapper nn.rnn_cell.GRUCell nn.rnn_cell.LSTMCell nn.rnn_cell.MultiRNNCell
    nn.sampled_softmax_loss nn.sigmoid nn.sigmoid_cross_entropy_with_logits nn.softmax
    nn.softmax_cross_entropy_with_logits nn.softmax_cross_entropy_with_logits_v2 nn.softplus nn.softsign
    nn.sparse_softmax_cross_entropy_with_logits nn.tanh nn.top_k nn.weighted_cross_entropy_with_logits
    nn.xw_plus_b nn.zero_fraction no_op one_hot ones ones_like parse_example parse_single_example placeholder
    placeholder_with_default pow python_io.TFRecordWriter python_io.tf_record_iterator random_normal
    random_normal_initializer random_shuffle random_uniform random_uniform_initializer range read_file reduce_max
    reduce_mean reduce_min reduce_sum reset_default_graph reshape reverse round
    saved_model.builder.SavedModelBuilder saved_model.main_op.main_op
    saved_model.signature_constants.CLASSIFY_INPUTS saved_model.signature_constants.CLASSIFY_METHOD_NAME
    saved_model.signature_constants.CLASSIFY_OUTPUT_SCORES
    saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    saved_model.signature_constants.PREDICT_METHOD_NAME saved_model.signature_constants.REGRESS_INPUTS
    saved_model.signature_constants.REGRESS_METHOD_NAME saved_model.signature_constants.REGRESS_OUTPUTS
    saved_model.signature_def_utils.build_signature_def saved_model.simple_save saved_model.tag_constants.SERVING
    saved_model.utils.build_tensor_info scan segment_sum self_adjoint_eig sequence_mask set_random_seed shape
    sigmoid sign sin size slice sparse_placeholder split sqrt square squared_difference squeeze stack
    stop_gradient strided_slice string subtract summary.FileWriter summary.histogram summary.image summary.merge
    summary.merge_all summary.scalar tables_initializer tan tanh tensordot test.TestCase test.create_local_cluster
    test.get_temp_dir test.main tile to_float to_int32 to_int64 train.AdagradOptimizer train.AdamOptimizer
    train.BytesList train.Coordinator train.Example train.ExponentialMovingAverage train.Feature train.Features
    train.GradientDescentOptimizer train.Int64List train.LoggingTensorHook train.MomentumOptimizer
    train.NewCheckpointReader train.Optimizer train.QueueRunner train.RMSPropOptimizer train.Saver train.batch
    train.checkpoint_exists train.exponential_decay train.get_checkpoint_state train.get_global_step
    train.get_or_create_global_step train.global_step train.import_meta_graph train.latest_checkpoint
    train.list_variables train.polynomial_decay train.range_input_producer train.shuffle_batch
    train.start_queue_runners train.string_input_producer trainable_variables transpose truediv truncated_normal
    truncated_normal_initializer truncatediv uint8 unsorted_segment_sum unstack variable_scope
    variables_initializer where zeros zeros_initializer zeros_like boolean_mask while_loop foldl foldr py_func
    dynamic_partition dynamic_stitch scatter_update scatter_add scatter_sub scatter_nd sparse_to_dense
    sparse_tensor_to_dense string_split string_join as_string random_crop random_gamma unique svd qr
    complex64 int8 uint16 GradientTape enable_eager_execution compat estimator keras nn.ctc_loss
    nn.max_pool_with_argmax nn.raw_rnn nn.conv3d nn.max_pool3d nn.atrous_conv2d nn.dilation2d nn.fused_batch_norm
    nn.log_uniform_candidate_sampler train.FtrlOptimizer train.ProximalGradientDescentOptimizer
    train.SyncReplicasOptimizer train.MonitoredTrainingSession train.MonitoredSession train.SessionRunHook
    layers.separable_conv2d layers.conv3d layers.max_pooling1d metrics image io sets spectral linalg distributions
"""
KNOWN = {name.rsplit(".", k)[0] for name in USED.split() for k in range(name.count(".") + 1)}


def missing(namespace: str) -> Callable[[str], Any]:
    """The __getattr__ of a namespace: what is asked for is not there, and why."""
    prefix = namespace.removeprefix("tf").removeprefix(".")

    def __getattr__(name: str) -> Any:
        if (f"{prefix}.{name}" if prefix else name) in KNOWN:
            raise AttributeError(f"{namespace}.{name} is of TensorFlow 1, and is not built in tinyflow yet")
        raise AttributeError(f"{namespace} has no {name!r}")

    return __getattr__
