"""A result in the structures of OPC 40100-1. The classes come from the nodeset, when the server loads it."""

from datetime import datetime
from typing import Any

from asyncua import ua

from edge.plc.registers import F32_MAX
from edge.plc.station_image import result_id, verdict_code
from edge.plc.vision import VisionResult

KINDS = {
    bool: ua.VariantType.Boolean,
    int: ua.VariantType.Int32,
    datetime: ua.VariantType.DateTime,
    list: ua.VariantType.Variant,
    ua.LocalizedText: ua.VariantType.LocalizedText,
    ua.NodeId: ua.VariantType.NodeId,
}
CONFIGURATION = "fixed"  # configuration management is not offered: there is only one


def structure(name: str, *values: Any, **fields: Any) -> Any:
    """An instance of a data type that a nodeset, or this server, has defined."""
    return getattr(ua, name)(*values, **fields)


def kind_of(value: Any) -> ua.VariantType:
    """How a field of a result or of an event travels; asyncua finds most of them by itself, but not all."""
    return KINDS.get(type(value), ua.VariantType.ExtensionObject)


def id_of(value: Any) -> str:
    """The text of an id argument; clients may leave a structure out. Raises TypeError for anything else."""
    if value is None or (isinstance(value, ua.ExtensionObject) and value.TypeId.is_null()):
        return ""
    text = value.Id if hasattr(value, "Id") else value
    if not (text is None or (isinstance(text, str) and text is not value)):
        raise TypeError(f"no id: {value!r}")
    return (text or "").strip()


def result_fields(result: VisionResult) -> dict[str, Any]:
    """Field of ResultDataType -> value. These are the event's fields, too, but for the transfer flag."""
    verdict, job = result.verdict, result.job
    return {
        "ResultId": structure("ResultIdDataType", Id=result.result_id),
        "IsPartial": False,
        "IsSimulated": result.simulated,
        "ResultState": int(result.state),
        "MeasId": structure("MeasIdDataType", Id=job.meas_id),
        "PartId": structure("PartIdDataType", Id=result.part_id),
        "ExternalRecipeId": structure("RecipeIdExternalDataType", Id=result.external_recipe_id),
        "InternalRecipeId": structure("RecipeIdInternalDataType", Id=verdict.recipe),
        "ProductId": structure("ProductIdDataType", Id=job.product_id),
        "ExternalConfigurationId": structure("ConfigurationIdDataType", Id=""),
        "InternalConfigurationId": structure("ConfigurationIdDataType", Id=CONFIGURATION),
        "JobId": structure("JobIdDataType", Id=job.job_id),
        "CreationTime": result.ended,
        "ProcessingTimes": structure(
            "ProcessingTimesDataType", StartTime=result.started, EndTime=result.ended,
            ProcessingDuration=verdict.total_ms,
        ),
        "ResultContent": content(result),
    }  # fmt: skip


def result_structure(result: VisionResult) -> Any:
    """ResultDataType."""
    return structure("ResultDataType", HasTransferableDataOnFile=False, **result_fields(result))


def content(result: VisionResult) -> list[ua.Variant]:
    """The verdict itself: VERDICT, RESULT_ID, SEQUENCE, REASON, its name, score, pass limit."""
    verdict = result.verdict
    score = F32_MAX if verdict.score is None else verdict.score
    return [
        ua.Variant(int(verdict_code(verdict)), ua.VariantType.UInt16),
        ua.Variant(result_id(verdict), ua.VariantType.UInt32),
        ua.Variant(result.sequence, ua.VariantType.UInt16),
        ua.Variant(int(verdict.reason), ua.VariantType.UInt16),
        ua.Variant(verdict.reason.name, ua.VariantType.String),
        ua.Variant(score, ua.VariantType.Float),
        ua.Variant(verdict.threshold, ua.VariantType.Float),
    ]
